"""The bundled model's tokenizer: byte-level BPE in which every word of the tasks is one token."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from gossamer.errors import GossamerError

END_OF_TEXT = "<|endoftext|>"
# More than the corpus' words need: BPE stops by itself once every word is one token.
LARGEST_VOCABULARY = 4096


def train_tokenizer(texts: Iterable[str], single_tokens: Iterable[str], context: int) -> PreTrainedTokenizerFast:
    """Train byte-level BPE with GPT-2's splitting rule until every word of `texts` is one token.

    Args:
        texts: what to train on; a word that occurs is merged completely, so the vocabulary is as large as it must be.
        single_tokens: strings that have to be one token each, leading space included.
        context: the longest text that the model takes, in tokens.

    Raises:
        GossamerError: one of `single_tokens` is not one token, usually because it never occurs in `texts`.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=LARGEST_VOCABULARY,
        min_frequency=1,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    broken = [word for word in single_tokens if len(tokenizer.encode(word).ids) != 1]
    if broken:
        raise GossamerError(
            f"tokenizer: expected one token for every task word, found several for {broken[:5]}; "
            "add documents that contain them"
        )
    # Texts begin with BOS unless asked otherwise, as the model has always seen them.
    start = (END_OF_TEXT, tokenizer.token_to_id(END_OF_TEXT))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A", pair=f"{END_OF_TEXT} $A $B", special_tokens=[start]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        model_max_length=context,
    )
