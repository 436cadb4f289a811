/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this layer share: the parts of a tokenizer in the order a text passes them.
 *
 *   text -> added (non-normalized) -> normalizer -> added (normalized) -> pretok -> bpe -> post -> ids
 *   ids  -> decoder -> text
 *
 * Each part reads its own component of tokenizer.json and holds a flat list of steps; a kind of step is a row of a
 * table in the part's file.  Texts are valid UTF-8 from here on: sow_tokenizer_encode checks them once. */
#ifndef SOWER_TEXT_IMPL_H
#define SOWER_TEXT_IMPL_H

#include "sower/json.h"
#include "sower/pattern.h"
#include "sower/tokenizer.h"
#include "sower/words.h"

/* ---- unicode.c: characters ---- */

/* The character at text[*at]; *at moves behind it. */
uint32_t sow_text_char(const char *text, size_t *at);
/* UTF-8 of a character; returns its 1 to 4 bytes. */
size_t sow_text_char_write(uint32_t c, char out[4]);
/* Bytes of the whole character at the start of any bytes; is_valid false: bytes of a sequence that is no character and
 * becomes one U+FFFD (the longest start of a character, Unicode 3.9); 0: a character that is cut off at the end. */
size_t sow_text_scan(const char *text, size_t bytes, bool *is_valid);
/* White_Space, and general category N, of Unicode 16. */
bool sow_text_is_space(uint32_t c);
bool sow_text_is_numeric(uint32_t c);

typedef enum text_form { TEXT_NFC, TEXT_NFD, TEXT_NFKC, TEXT_NFKD } text_form;
/* Appends the text in a normalization form. */
SOW_NODISCARD sow_code sow_text_normalize(text_form form, const char *text, size_t bytes, sow_words *out);

/* The character itself, or one of the same category and size if pcre2's older Unicode does not know it. */
uint32_t sow_text_known_char(uint32_t c);
/* `*out` is the text as pcre2's older Unicode should see it, by sow_text_known_char; offsets stay.  Borrowed from
 * `text` (the usual case) or from `scratch`. */
SOW_NODISCARD sow_code sow_text_known(const char *text, size_t bytes, sow_words *scratch, const char **out);

/* ---- bytelevel.c: the alphabet of byte-level tokenizers ---- */

/* Appends the bytes of text as characters (GPT-2's table: space is U+0120, ...). */
SOW_NODISCARD sow_code sow_text_from_bytes(const char *text, size_t bytes, sow_words *out);
/* Appends the bytes that the characters of a token stand for; a token with a character outside the alphabet stands for
 * itself. */
SOW_NODISCARD sow_code sow_text_to_bytes(const char *token, size_t bytes, sow_words *out);

/* ---- pattern.c ---- */

/* The first match at or after `from` of valid UTF-8 (not checked again); giving up is SOW_EFORMAT, not "none". */
SOW_NODISCARD sow_code sow_pattern_search(sow_pattern *pattern, const char *text, size_t bytes, size_t from,
                                          bool *is_found, size_t match[2]);

/* ---- oniguruma.c ---- */

/* Appends to `out` the expression for pcre2 that matches what Oniguruma would; `where` names it in messages. */
SOW_NODISCARD sow_code sow_text_translate(const char *expression, size_t bytes, const char *where, sow_words *out);

/* ---- component.c: reading the parts of tokenizer.json ---- */

typedef sow_code text_visit(const sow_json *component, const char *type, const char *where, void *context);
/* Visits the components of `node` in order: none if it is null, those in the list `list_key` of a Sequence, else
 * itself. */
SOW_NODISCARD sow_code sow_text_walk(const sow_json *node, const char *list_key, const char *where, text_visit *visit,
                                     void *context);
/* SOW_EFORMAT if the object has a key that is not among the words of `keys`. */
SOW_NODISCARD sow_code sow_text_check_keys(const sow_json *object, const char *where, const char *keys);
/* A member of an object; a missing or null one leaves *out as it is. */
SOW_NODISCARD sow_code sow_text_get_bool(const sow_json *object, const char *where, const char *key, bool *out);
SOW_NODISCARD sow_code sow_text_get_int(const sow_json *object, const char *where, const char *key, int64_t low,
                                        int64_t high, int64_t *out);
/* A member that must be a string; borrowed. */
SOW_NODISCARD sow_code sow_text_get_string(const sow_json *object, const char *where, const char *key, const char **out,
                                           size_t *bytes);
/* A NUL-terminated copy of bytes that may hold NULs; SOW_FREE it. */
SOW_NODISCARD sow_code sow_text_copy(const char *text, size_t bytes, char **out);
/* "type 'X' is not supported", with those that are. */
SOW_NODISCARD sow_code sow_text_fail_type(const char *where, const char *type, const char *const *known, int64_t n);

/* ---- matcher.c: cutting a text where a string or an expression matches ---- */

typedef struct text_matcher {
    char *literal; /* owned; NULL if it is no string */
    size_t bytes;
    sow_pattern *pattern; /* owned; NULL if it is no expression */
    bool (*is_char)(uint32_t c);
} text_matcher;
typedef struct text_span {
    size_t start, end;
    bool is_match;
} text_span;
typedef struct text_spans {
    text_span *spans; /* owned */
    int64_t n, capacity;
    sow_words known; /* scratch of sow_text_known */
} text_spans;
typedef enum text_behavior {
    TEXT_REMOVED,
    TEXT_ISOLATED,
    TEXT_MERGED_WITH_PREVIOUS,
    TEXT_MERGED_WITH_NEXT,
    TEXT_CONTIGUOUS,
    TEXT_N_BEHAVIORS
} text_behavior;
/* From {"String": ...} or {"Regex": ...} of an object's member "pattern". */
SOW_NODISCARD sow_code sow_text_matcher_read(const sow_json *object, const char *where, text_matcher *out);
SOW_NODISCARD sow_code sow_text_matcher_literal(const char *text, size_t bytes, text_matcher *out);
SOW_NODISCARD sow_code sow_text_matcher_regex(const char *expression, size_t bytes, const char *where,
                                              text_matcher *out);
void sow_text_matcher_fini(text_matcher *matcher);
/* Matches and what lies between, covering the text in order. */
SOW_NODISCARD sow_code sow_text_matcher_find(const text_matcher *matcher, const char *text, size_t bytes,
                                             text_spans *out);
/* Appends the text with `content` in the place of every match; `spans` is room. */
SOW_NODISCARD sow_code sow_text_matcher_replace(const text_matcher *matcher, const char *content, size_t content_bytes,
                                                text_spans *spans, const char *text, size_t bytes, sow_words *out);
/* Joins and drops spans as the behavior asks; what stays are pieces. */
void sow_text_spans_fold(text_spans *spans, text_behavior behavior, bool is_inverted);
void sow_text_spans_fini(text_spans *spans);

/* ---- normalizer.c ---- */

typedef struct text_normalizer_step text_normalizer_step;
typedef struct text_normalizer {
    text_normalizer_step *steps; /* owned */
    int64_t n, capacity;
    sow_words result[2]; /* scratch */
    text_spans spans;    /* scratch */
} text_normalizer;
SOW_NODISCARD sow_code sow_text_normalizer_read(const sow_json *node, const char *where, text_normalizer *out);
void sow_text_normalizer_fini(text_normalizer *normalizer);
/* `*out` is borrowed: from `text` if there are no steps, else valid until the next call. */
SOW_NODISCARD sow_code sow_text_normalizer_apply(text_normalizer *normalizer, const char *text, size_t bytes,
                                                 const char **out, size_t *out_bytes);

/* ---- pretok.c ---- */

typedef struct text_piece {
    size_t start, bytes;
} text_piece;
/* Pieces of text that are tokenized each by itself. */
typedef struct text_pieces {
    sow_words text;
    text_piece *pieces; /* owned */
    int64_t n, capacity;
} text_pieces;
typedef struct text_pretok_step text_pretok_step;
typedef struct text_pretok {
    text_pretok_step *steps; /* owned */
    int64_t n, capacity;
    text_pieces result[2]; /* scratch */
    text_spans spans;      /* scratch */
    sow_words changed;     /* scratch */
} text_pretok;
SOW_NODISCARD sow_code sow_text_pretok_read(const sow_json *node, const char *where, text_pretok *out);
void sow_text_pretok_fini(text_pretok *pretok);
/* `*out` is valid until the next call.  is_start: the text stands at the very beginning. */
SOW_NODISCARD sow_code sow_text_pretok_apply(text_pretok *pretok, const char *text, size_t bytes, bool is_start,
                                             const text_pieces **out);

/* ---- vocab.c: token <-> id, of the model and of the added tokens ---- */

typedef struct text_token {
    size_t start, bytes; /* in the vocabulary's text */
    bool is_used;        /* false: a hole */
    bool is_model;       /* the model knows it; else it is an added token only */
    bool is_added;       /* one of the added tokens */
    bool is_special;     /* left out by a decoding that skips special tokens */
} text_token;
typedef struct text_vocab {
    text_token *tokens; /* owned, [n] by id */
    int64_t n, n_model, capacity;
    sow_words text;
    int32_t *slots; /* owned, [n_slots]: id + 1, or 0; n_slots is a power of two */
    int64_t n_slots, n_filled;
} text_vocab;
/* From {"token": id, ...}. */
SOW_NODISCARD sow_code sow_text_vocab_read(const sow_json *node, const char *where, text_vocab *out);
/* Adds a token that only the added tokens know. */
SOW_NODISCARD sow_code sow_text_vocab_add(text_vocab *vocab, const char *token, size_t bytes, int64_t id);
void sow_text_vocab_fini(text_vocab *vocab);
/* The id of a token, -1 if there is none. */
int32_t sow_text_vocab_find(const text_vocab *vocab, const char *token, size_t bytes);
/* The same among the model's tokens. */
int32_t sow_text_vocab_find_model(const text_vocab *vocab, const char *token, size_t bytes);
/* The token of an id and its bytes (not NUL-terminated), NULL for a hole; borrowed. */
const char *sow_text_vocab_token(const text_vocab *vocab, int64_t id, size_t *bytes);

/* ---- bpe.c ---- */

typedef struct text_bpe text_bpe;
/* `vocab` is borrowed and outlives it. */
SOW_NODISCARD sow_code sow_text_bpe_read(const sow_json *model, const text_vocab *vocab, const char *where,
                                         text_bpe **out);
void sow_text_bpe_destroy(text_bpe **bpe);
/* Appends the ids of one piece. */
SOW_NODISCARD sow_code sow_text_bpe_encode(text_bpe *bpe, const char *piece, size_t bytes, sow_ids *out);

/* ---- added.c: tokens that are found in the text before the model sees it ---- */

typedef struct text_added_token {
    int32_t id;
    bool is_single_word, is_lstrip, is_rstrip, is_normalized;
    char *pattern; /* owned: what is looked for, normalized if is_normalized */
    size_t bytes;
} text_added_token;
typedef struct text_added {
    text_added_token
        *tokens; /* owned, [n]; first the n_sets[0] that are looked for in the raw text, each half sorted by pattern */
    int64_t n, n_sets[2], capacity;
    bool has_first[2][256]; /* whether a pattern of the set begins with this byte */
    sow_pattern *word;      /* owned: a letter of a word; NULL if no token is_single_word */
} text_added;
/* A part of a text: an added token, or (id -1) text between them. */
typedef struct text_cut {
    size_t start, end;
    int32_t id;
} text_cut;
typedef struct text_cuts {
    text_cut *cuts; /* owned */
    int64_t n, capacity;
} text_cuts;
/* Adds tokens that the model does not have to `vocab`. */
SOW_NODISCARD sow_code sow_text_added_read(const sow_json *node, const char *where, text_vocab *vocab,
                                           text_normalizer *normalizer, text_added *out);
void sow_text_added_fini(text_added *added);
/* set 0: tokens looked for in the raw text, 1: in the normalized text. */
SOW_NODISCARD sow_code sow_text_added_cut(const text_added *added, int set, const char *text, size_t bytes,
                                          text_cuts *out);

/* ---- post.c: what is put before and behind the ids ---- */

typedef struct text_post {
    sow_ids before, behind;
    bool has_template;
} text_post;
SOW_NODISCARD sow_code sow_text_post_read(const sow_json *node, const text_vocab *vocab, const char *where,
                                          text_post *out);
void sow_text_post_fini(text_post *post);
/* Puts them around ids[from..]; `before` only if they do not begin with it already. */
SOW_NODISCARD sow_code sow_text_post_apply(const text_post *post, int64_t from, sow_ids *ids);

/* ---- decoder.c ---- */

typedef struct text_decoder text_decoder;
SOW_NODISCARD sow_code sow_text_decoder_read(const sow_json *node, const text_vocab *vocab, const text_added *added,
                                             const char *where, text_decoder **out);
void sow_text_decoder_destroy(text_decoder **decoder);
/* The text (byte-level and byte-fallback: the bytes) of an id, NULL for a hole. */
const char *sow_text_decoder_bytes(const text_decoder *decoder, int64_t id, size_t *bytes);

/* Decoding in progress. */
typedef struct text_decoding {
    sow_words held;   /* bytes that are no whole character yet */
    bool is_begun;    /* a token was put */
    int64_t to_strip; /* characters that may still be dropped from the start */
} text_decoding;
/* Begins anew; *decoding is zero, or has been used: its room is kept. */
void sow_text_decoding_begin(text_decoding *decoding, const text_decoder *decoder);
/* is_whole: a run of byte tokens is kept together until it ends, as Hugging Face's decode judges it; else each
 * character is given out as soon as it is whole. */
SOW_NODISCARD sow_code sow_text_decoding_put(text_decoding *decoding, text_decoder *decoder, int64_t id, bool is_whole,
                                             sow_words *out);
SOW_NODISCARD sow_code sow_text_decoding_end(text_decoding *decoding, const text_decoder *decoder, sow_words *out);
void sow_text_decoding_fini(text_decoding *decoding);

/* ---- tokenizer ---- */

struct sow_tokenizer {
    char *json; /* owned */
    size_t json_bytes;
    text_normalizer normalizer;
    text_vocab vocab;
    text_added added;
    text_pretok pretok;
    text_bpe *bpe; /* owned */
    text_post post;
    text_decoder *decoder;  /* owned */
    text_cuts cuts[2];      /* scratch */
    text_decoding decoding; /* scratch */
};

#endif
