/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizers: text <-> ids, id for id as Hugging Face's library.  Byte-level BPE and byte-fallback BPE.
 *
 * Needs: pcre2, utf8proc, json, words.  Threads: a tokenizer is read-only after it was made, except for the scratch of
 * encode and decode: one tokenizer, one thread.  Ranks: knows none. */
#ifndef SOWER_TOKENIZER_H
#define SOWER_TOKENIZER_H

#include "sower/error.h"

#include <stdbool.h>

typedef struct sow_tokenizer sow_tokenizer;

/* A growing list of ids; start with {0}. */
typedef struct sow_ids {
    int32_t *ids; /* owned */
    int64_t n, capacity;
} sow_ids;
void sow_ids_fini(sow_ids *ids);
SOW_NODISCARD sow_code sow_ids_add(sow_ids *ids, int32_t id);

/* From the text of a tokenizer.json; `what` names it in messages.  What the file asks for and this code does not know
 * is an error that names it, never ignored; only truncation and padding, wishes about batches, are not applied
 * (transformers overrides them too).  Known are BPE models, the normalizers NFC, NFD, NFKC, NFKD, Prepend, Replace,
 * the pre-tokenizers ByteLevel, Digits, Metaspace, Split, the post-processors ByteLevel, TemplateProcessing, the
 * decoders ByteLevel, ByteFallback, Fuse, Metaspace, Replace, Strip, and Sequences of them. */
SOW_NODISCARD sow_code sow_tokenizer_parse(const char *json, size_t bytes, const char *what, sow_tokenizer **out);

/* From a GGUF's lists (pre: "smollm", "gpt-2", "default", ...).  tokens[i] is id i in the model's own alphabet; merges
 * are "left right"; types are GGUF's (1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte), NULL: all normal.
 * Arrays stay the caller's. */
typedef struct sow_gguf_vocabulary {
    const char *model; /* tokenizer.ggml.model: "gpt2" (byte-level), "llama" (byte fallback) */
    const char *pre;
    int64_t n_tokens, n_merges;
    const char *const *tokens;
    const size_t *token_bytes;
    const int32_t *types;
    const float *scores; /* "llama"; may be NULL */
    const char *const *merges;
    int64_t bos, eos; /* -1: none */
    bool add_bos, add_space_prefix;
} sow_gguf_vocabulary;
SOW_NODISCARD sow_code sow_tokenizer_from_gguf(const sow_gguf_vocabulary *vocabulary, const char *what,
                                               sow_tokenizer **out);

/* NULL is fine. */
void sow_tokenizer_destroy(sow_tokenizer **tokenizer);

/* A tokenizer.json text that makes the same tokenizer again (for export and for sending to other ranks); borrowed.
 * For one made from GGUF it is generated. */
const char *sow_tokenizer_json(const sow_tokenizer *tokenizer, size_t *bytes);

/* Ids in use: 0 .. size - 1 (some may be holes). */
int64_t sow_tokenizer_size(const sow_tokenizer *tokenizer);

/* Appends the ids of `text` (valid UTF-8, else SOW_EFORMAT).  Added tokens in the text are found.  with_special: what
 * the post-processor adds (BOS), never doubled if the text already begins with it.  A character for which the model
 * has no token, no bytes and no unknown token is left out, as Hugging Face's library does. */
SOW_NODISCARD sow_code sow_tokenizer_encode(sow_tokenizer *tokenizer, const char *text, size_t bytes, bool with_special,
                                            sow_ids *out);

/* Appends the text of ids.  skip_special drops special added tokens.  The whole is decoded at once, as Hugging Face's
 * decode does (invalid UTF-8 becomes U+FFFD).  Ids without a token are left out; negative ones are SOW_EARG. */
struct sow_words;
SOW_NODISCARD sow_code sow_tokenizer_decode(sow_tokenizer *tokenizer, const int32_t *ids, int64_t n, bool skip_special,
                                            struct sow_words *out);

/* The bytes that one id stands for, for streaming and stop strings (a character may be split over ids).  Special
 * tokens give their content.  Borrowed; NULL for a hole. */
const char *sow_tokenizer_bytes(const sow_tokenizer *tokenizer, int32_t id, size_t *bytes);

/* The id of a token by its content ("<|im_end|>"), -1 if there is none. */
int32_t sow_tokenizer_find(const sow_tokenizer *tokenizer, const char *content);

/* Decoding in a stream: feed ids, get only whole characters; at the end what is left is replaced by U+FFFD.  The
 * pieces together are the text that sow_tokenizer_decode gives (but of a run of byte tokens with an invalid byte,
 * which decode replaces as a whole, the characters that were whole stay). */
typedef struct sow_stream_decoder sow_stream_decoder;
SOW_NODISCARD sow_code sow_stream_decoder_create(sow_tokenizer *tokenizer, sow_stream_decoder **out);
void sow_stream_decoder_destroy(sow_stream_decoder **decoder);
SOW_NODISCARD sow_code sow_stream_decoder_put(sow_stream_decoder *decoder, int32_t id, struct sow_words *out);
SOW_NODISCARD sow_code sow_stream_decoder_end(sow_stream_decoder *decoder, struct sow_words *out);

#endif
