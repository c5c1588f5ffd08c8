"""Special tokens: those that the settings of a tokenizer name, and how they join a vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastdecode.models.settings import TOKEN_FLAGS
from fastdecode.models.tokenizer_files.refusal import NeedsTransformers

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

NAMED = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)


class SpecialTokens:
    """The special tokens of a tokenizer.

    Attributes:
        named: those that have a name, such as "bos_token", in the order of transformers.
        extra: the others.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        default: Mapping[str, str],
        declared: Mapping[int, AddedToken] | None,
    ) -> None:
        """Read them.

        Args:
            settings: those of the tokenizer.
            default: by name, where the settings do not say.
            declared: the tokens that the settings add.

        Raises:
            NeedsTransformers: for tokens of other forms.
        """
        self._known = {token.content: token for token in (declared or {}).values()}
        self.named: dict[str, str | AddedToken] = {}
        for name in NAMED:
            self.add(name, settings.get(name, default.get(name)))
        own = {
            name: value
            for name, value in settings.items()
            if name.endswith("_token") and name not in NAMED and isinstance(value, str)
        }
        extra = settings.get("extra_special_tokens")
        if isinstance(extra, dict):
            own |= extra
        own = own or settings.get("model_specific_special_tokens") or {}
        if not isinstance(own, dict):
            raise NeedsTransformers(f"model_specific_special_tokens as {own!r:.40}")
        if isinstance(extra, dict) or "extra_special_tokens" not in settings:
            extra = settings.get("additional_special_tokens")
        if not isinstance(extra or [], list):
            raise NeedsTransformers(f"extra_special_tokens as {extra!r:.40}")
        self.extra = [_token("extra_special_tokens", token) for token in extra or []]
        for name, value in own.items():
            self.named[name] = _token(name, value)

    def add(self, name: str, value: Any) -> None:
        """Set one of `NAMED`; None sets none."""
        if value is not None:
            token = _token(name, value)
            self.named[name] = self._known.get(content(token), token)
            order = [*(name for name in NAMED if name in self.named), *self.named]
            self.named = {name: self.named[name] for name in order}

    def all(self) -> Iterator[str | AddedToken]:
        """All of them."""
        yield from self.named.values()
        yield from self.extra

    def add_to(self, tokenizer: Tokenizer, added: Mapping[int, AddedToken]) -> None:
        """Add the tokens that the tokenizer does not have yet, in the order of transformers.

        Args:
            tokenizer: is changed.
            added: other tokens, by their ids.
        """
        from tokenizers import AddedToken

        tokens: list[str | AddedToken] = [added[token] for token in sorted(added)]
        known = {one.content for one in tokenizer.get_added_tokens_decoder().values()}
        known |= {content(token) for token in tokens}
        for special in self.all():
            # A text and a token of the same content are both added, and the flags of both count.
            if content(special) not in known and special not in tokens:
                tokens.append(special)
        named = {content(token) for token in self.named.values()}
        for place, token in enumerate(tokens):
            if isinstance(token, str):
                tokens[place] = AddedToken(token, special=True)
            elif token.content in named:
                token.special = True
        if tokens:
            tokenizer.add_tokens(tokens)

    def add_again_to(self, tokenizer: Tokenizer) -> None:
        """Add all of them as special tokens without other flags."""
        from tokenizers import AddedToken

        texts = dict.fromkeys(map(content, self.all()))
        if texts:
            tokenizer.add_tokens([AddedToken(text, special=True) for text in texts])


def added(value: Any) -> AddedToken:
    """An added token from its settings."""
    from tokenizers import AddedToken

    # The library writes the names of settings that it does not know to standard error, as they are.
    known = ("content", *TOKEN_FLAGS)
    return AddedToken(**{key: item for key, item in value.items() if key in known})


def content(token: Any) -> str:
    """The text of a token."""
    return token if isinstance(token, str) else str(token.content)


def _token(name: str, value: Any) -> str | AddedToken:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and "__type" in value:
        return added(value)
    raise NeedsTransformers(f"{name} as {value!r:.40}")
