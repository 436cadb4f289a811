/* SPDX-License-Identifier: Apache-2.0 */
/* A tokenizer from a GGUF's lists: a tokenizer.json is written from them and parsed, so that what is exported is what
 * is used.
 *
 * GGUF names the way words are cut by a word (tokenizer.ggml.pre); what that word means is a row of a table here.  A
 * "llama" vocabulary has scores in place of merges: every token is made by all pairs of tokens that it can be cut
 * into, and the pairs are ranked by the score of what they make (so does transformers' generate_merges). */
#include "text_impl.h"

#include "sower/alloc.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_USER = 4 };

#define MARK "\xE2\x96\x81" /* U+2581, a space in the "llama" alphabet */

#define BYTE_LEVEL(regex)                                                                                              \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":" regex "}"
#define DIGITS "{\"type\":\"Digits\",\"individual_digits\":true}"
/* Llama 3's and Qwen2's words differ in how many digits stay together. */
#define SPLIT(numbers)                                                                                                 \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}" \
    "+|" numbers "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},"            \
    "\"behavior\":\"Isolated\",\"invert\":false}"
#define SEQUENCE(a, b) "{\"type\":\"Sequence\",\"pretokenizers\":[" a "," b "]}"

typedef struct words_row {
    const char *pre;
    const char *normalizer, *pre_tokenizer; /* JSON */
    bool is_ignoring_merges;
} words_row;

/* smollm: as transformers reads a SmolLM2 GGUF.  The published tokenizer.json isolates digits first; no merge of
 * SmolLM2 has a digit, so that shows around other numbers only (one half, Roman numerals). */
static const words_row byte_level_rows[] = {
    {"default", "null", BYTE_LEVEL("true"), false},
    {"gpt-2", "null", BYTE_LEVEL("true"), false},
    {"llama-bpe", "null", SEQUENCE(SPLIT("\\\\p{N}{1,3}"), BYTE_LEVEL("false")), true},
    {"qwen2", "{\"type\":\"NFC\"}", SEQUENCE(SPLIT("\\\\p{N}"), BYTE_LEVEL("false")), false},
    {"smollm", "null", BYTE_LEVEL("true"), false},
    {"starcoder", "null", SEQUENCE(DIGITS, BYTE_LEVEL("true")), false},
};

typedef struct writer {
    const sow_gguf_vocabulary *v;
    const char *what;
    sow_words *out;
} writer;

static sow_code put(writer *w, const char *text)
{
    return sow_words_add(w->out, text, strlen(text));
}

static sow_code put_string(writer *w, const char *text, size_t bytes)
{
    SOW_TRY(put(w, "\""));
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20)
            SOW_TRY(sow_words_print(w->out, "\\u%04x", c));
        else if (c == '"' || c == '\\')
            SOW_TRY(sow_words_print(w->out, "\\%c", c));
        else
            SOW_TRY(sow_words_add(w->out, text + i, 1));
    }
    return put(w, "\"");
}

static sow_code put_token(writer *w, int64_t id)
{
    return put_string(w, w->v->tokens[id], w->v->token_bytes[id]);
}

/* ---- the parts of the file ---- */

static sow_code check(const sow_gguf_vocabulary *v, const char *what)
{
    if (v->n_tokens <= 0 || v->n_tokens > INT32_MAX / 4 || v->n_merges < 0 || v->n_merges > INT32_MAX / 4)
        return SOW_FAIL(SOW_EFORMAT, "%s: %" PRId64 " tokens and %" PRId64 " merges cannot be", what, v->n_tokens,
                        v->n_merges);
    for (int64_t i = 0; i < v->n_tokens; i++)
        if (!sow_words_is_utf8(v->tokens[i], v->token_bytes[i]) ||
            memchr(v->tokens[i], '\0', v->token_bytes[i]) != NULL)
            return SOW_FAIL(SOW_EFORMAT, "%s: token %" PRId64 " is not UTF-8 or holds a NUL", what, i);
    for (int64_t i = 0; i < v->n_merges; i++)
        if (!sow_words_is_utf8(v->merges[i], strlen(v->merges[i])))
            return SOW_FAIL(SOW_EFORMAT, "%s: merge %" PRId64 " is not UTF-8", what, i);
    if (v->bos < -1 || v->bos >= v->n_tokens || (v->add_bos && v->bos < 0))
        return SOW_FAIL(SOW_EFORMAT, "%s: the begin token %" PRId64 " is no token", what, v->bos);
    return SOW_OK;
}

static bool is_added(const sow_gguf_vocabulary *v, int64_t id)
{
    int32_t type = v->types == NULL ? 0 : v->types[id];
    return (type == TYPE_CONTROL || type == TYPE_USER || type == TYPE_UNKNOWN) && v->token_bytes[id] > 0;
}

static sow_code put_added(writer *w)
{
    bool is_first = true;
    SOW_TRY(put(w, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":["));
    for (int64_t id = 0; id < w->v->n_tokens; id++) {
        if (!is_added(w->v, id))
            continue;
        SOW_TRY(sow_words_print(w->out, "%s{\"id\":%" PRId64 ",\"content\":", is_first ? "" : ",", id));
        SOW_TRY(put_token(w, id));
        SOW_TRY(sow_words_print(
            w->out, ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":%s}",
            w->v->types[id] == TYPE_USER ? "false" : "true"));
        is_first = false;
    }
    return put(w, "]");
}

/* "The begin token, then the text", as transformers writes it. */
static sow_code put_post_processor(writer *w)
{
    SOW_TRY(put(w, ",\"post_processor\":"));
    if (!w->v->add_bos)
        return put(w, "null");
    SOW_TRY(put(w, "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"));
    SOW_TRY(put_token(w, w->v->bos));
    SOW_TRY(
        put(w, ",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[{\"SpecialToken\":{\"id\":"));
    SOW_TRY(put_token(w, w->v->bos));
    SOW_TRY(put(w, ",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":"));
    SOW_TRY(put_token(w, w->v->bos));
    SOW_TRY(put(w, ",\"type_id\":1}},{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}],\"special_tokens\":{"));
    SOW_TRY(put_token(w, w->v->bos));
    SOW_TRY(put(w, ":{\"id\":"));
    SOW_TRY(put_token(w, w->v->bos));
    SOW_TRY(sow_words_print(w->out, ",\"ids\":[%" PRId64 "],\"tokens\":[", w->v->bos));
    SOW_TRY(put_token(w, w->v->bos));
    return put(w, "]}}}");
}

static sow_code put_vocab(writer *w)
{
    SOW_TRY(put(w, ",\"vocab\":{"));
    for (int64_t id = 0; id < w->v->n_tokens; id++) {
        SOW_TRY(put(w, id > 0 ? "," : ""));
        SOW_TRY(put_token(w, id));
        SOW_TRY(sow_words_print(w->out, ":%" PRId64, id));
    }
    return put(w, "},\"merges\":[");
}

static sow_code put_merge(writer *w, bool is_first, const char *left, size_t left_bytes, const char *right,
                          size_t right_bytes)
{
    SOW_TRY(put(w, is_first ? "[" : ",["));
    SOW_TRY(put_string(w, left, left_bytes));
    SOW_TRY(put(w, ","));
    SOW_TRY(put_string(w, right, right_bytes));
    return put(w, "]");
}

/* GGUF's merges are "left right"; halves may begin with a space in old files, so the space that counts is the first
 * but one byte in. */
static sow_code put_merges(writer *w)
{
    for (int64_t i = 0; i < w->v->n_merges; i++) {
        const char *text = w->v->merges[i];
        const char *space = text[0] == '\0' ? NULL : strchr(text + 1, ' ');
        if (space == NULL)
            return SOW_FAIL(SOW_EFORMAT, "%s: merge %" PRId64 " '%.100s' is no pair", w->what, i, text);
        SOW_TRY(put_merge(w, i == 0, text, (size_t)(space - text), space + 1, strlen(space + 1)));
    }
    return SOW_OK;
}

/* ---- merges from scores ---- */

typedef struct scored {
    float score;
    int32_t left, right;             /* ids */
    int32_t left_chars, right_chars; /* characters */
    int64_t order;
} scored;

/* Descending by (score, characters of the left, of the right); equals keep their order. */
static int compare_scored(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->score < y->score || x->score > y->score)
        return x->score > y->score ? -1 : 1;
    if (x->left_chars != y->left_chars)
        return x->left_chars > y->left_chars ? -1 : 1;
    if (x->right_chars != y->right_chars)
        return x->right_chars > y->right_chars ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

typedef struct scored_list {
    scored *pairs; /* owned */
    int64_t n, capacity;
} scored_list;

static int compare_ids(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->left != y->left)
        return x->left < y->left ? -1 : 1;
    return x->right < y->right ? -1 : x->right > y->right;
}

static int32_t count_chars(const char *text, size_t bytes)
{
    int32_t n = 0;
    for (size_t at = 0; at < bytes; n++)
        (void)sow_text_char(text, &at);
    return n;
}

/* All pairs of tokens that a token can be cut into, in the order of their ids. */
static sow_code add_pairs(const sow_gguf_vocabulary *v, const text_vocab *vocab, int64_t id, scored_list *list)
{
    const char *token = v->tokens[id];
    size_t bytes = v->token_bytes[id], at = 0;
    int64_t first = list->n;
    int32_t n_chars = count_chars(token, bytes);
    for (int32_t left_chars = 1; left_chars < n_chars; left_chars++) {
        (void)sow_text_char(token, &at);
        int32_t left = sow_text_vocab_find(vocab, token, at);
        int32_t right = left < 0 ? -1 : sow_text_vocab_find(vocab, token + at, bytes - at);
        if (right < 0)
            continue;
        SOW_TRY(SOW_GROW(&list->pairs, &list->capacity, list->n));
        list->pairs[list->n++] = (scored){v->scores[id], left, right, left_chars, n_chars - left_chars, 0};
    }
    if (list->n > first)
        qsort(list->pairs + first, (size_t)(list->n - first), sizeof *list->pairs, compare_ids);
    for (int64_t i = first; i < list->n; i++)
        list->pairs[i].order = i;
    return SOW_OK;
}

static sow_code put_scored_merges(writer *w)
{
    const sow_gguf_vocabulary *v = w->v;
    text_vocab vocab = {0};
    scored_list list = {0};
    sow_code rc = SOW_OK;
    for (int64_t id = 0; id < v->n_tokens; id++)
        SOW_TRY_OR(rc, sow_text_vocab_add(&vocab, v->tokens[id], v->token_bytes[id], id));
    for (int64_t id = 0; id < v->n_tokens; id++)
        SOW_TRY_OR(rc, add_pairs(v, &vocab, id, &list));
    if (list.n > 0)
        qsort(list.pairs, (size_t)list.n, sizeof *list.pairs, compare_scored);
    for (int64_t i = 0; i < list.n; i++) {
        const scored *p = &list.pairs[i];
        SOW_TRY_OR(rc, put_merge(w, i == 0, v->tokens[p->left], v->token_bytes[p->left], v->tokens[p->right],
                                 v->token_bytes[p->right]));
    }
done:
    SOW_FREE(&list.pairs);
    sow_text_vocab_fini(&vocab);
    return rc;
}

/* ---- the two models ---- */

static sow_code put_byte_level(writer *w)
{
    const words_row *row = NULL;
    for (size_t i = 0; i < sizeof byte_level_rows / sizeof *byte_level_rows; i++)
        if (w->v->pre != NULL && strcmp(w->v->pre, byte_level_rows[i].pre) == 0)
            row = &byte_level_rows[i];
    if (row == NULL)
        return SOW_FAIL(SOW_EFORMAT,
                        "%s: tokenizer.ggml.pre '%.100s' is not supported; these are: default, gpt-2, llama-bpe, "
                        "qwen2, smollm, starcoder",
                        w->what, w->v->pre == NULL ? "" : w->v->pre);
    SOW_TRY(sow_words_print(w->out, ",\"normalizer\":%s,\"pre_tokenizer\":%s", row->normalizer, row->pre_tokenizer));
    SOW_TRY(put_post_processor(w));
    SOW_TRY(
        sow_words_print(w->out,
                        ",\"decoder\":" BYTE_LEVEL(
                            "true") ",\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
                                    "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":false,"
                                    "\"byte_fallback\":false,\"ignore_merges\":%s",
                        row->is_ignoring_merges ? "true" : "false"));
    SOW_TRY(put_vocab(w));
    return put_merges(w);
}

#define REPLACE(from, to) "{\"type\":\"Replace\",\"pattern\":{\"String\":\"" from "\"},\"content\":\"" to "\"}"

static sow_code put_byte_fallback(writer *w)
{
    const sow_gguf_vocabulary *v = w->v;
    SOW_TRY(put(w, v->add_space_prefix
                       ? ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":"
                         "\"" MARK "\"}," REPLACE(" ", MARK) "]}"
                       : ",\"normalizer\":" REPLACE(" ", MARK)));
    SOW_TRY(put(w, ",\"pre_tokenizer\":null"));
    SOW_TRY(put_post_processor(w));
    SOW_TRY(put(w, ",\"decoder\":{\"type\":\"Sequence\",\"decoders\":[" REPLACE(
                       MARK, " ") ",{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}"));
    SOW_TRY(put(w, v->add_space_prefix ? ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}" : "]}"));
    SOW_TRY(put(w, ",\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":"));
    int64_t unk = 0;
    while (unk < v->n_tokens && (v->types == NULL || v->types[unk] != TYPE_UNKNOWN))
        unk++;
    SOW_TRY(unk < v->n_tokens ? put_token(w, unk) : put(w, "null"));
    SOW_TRY(put(
        w, ",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":true,\"byte_fallback\":true,"
           "\"ignore_merges\":false"));
    SOW_TRY(put_vocab(w));
    if (v->n_merges > 0)
        return put_merges(w);
    if (v->scores == NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s: a \"llama\" vocabulary has neither merges nor scores", w->what);
    return put_scored_merges(w);
}

sow_code sow_tokenizer_from_gguf(const sow_gguf_vocabulary *vocabulary, const char *what, sow_tokenizer **out)
{
    sow_words json = {0};
    writer w = {vocabulary, what, &json};
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, check(vocabulary, what));
    SOW_TRY_OR(rc, put_added(&w));
    if (strcmp(vocabulary->model, "gpt2") == 0)
        SOW_TRY_OR(rc, put_byte_level(&w));
    else if (strcmp(vocabulary->model, "llama") == 0)
        SOW_TRY_OR(rc, put_byte_fallback(&w));
    else
        rc = SOW_FAIL(SOW_EFORMAT, "%s: tokenizer.ggml.model '%.100s' is not supported; gpt2 and llama are", what,
                      vocabulary->model);
    if (rc == SOW_OK)
        SOW_TRY_OR(rc, put(&w, "]}}"));
    if (rc == SOW_OK)
        rc = sow_tokenizer_parse(json.text, json.bytes, what, out);
done:
    sow_words_fini(&json);
    return rc;
}
