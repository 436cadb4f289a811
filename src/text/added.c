/* SPDX-License-Identifier: Apache-2.0 */
/* Added tokens: found in the text before the model sees it, at each place the longest one.
 *
 * Patterns are sorted; at a place of the text the range of patterns that agree with it so far is narrowed byte by
 * byte.  Tokens that are not normalized are looked for in the raw text, the others in the normalized text, by their
 * normalized form. */
#include "text_impl.h"

#include "sower/alloc.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a regular expression calls \w in Rust. */
#define WORD "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]"

/* Ids: a token of the model keeps the model's; the k-th other one must have n_model + k, as Hugging Face's library
 * would give it whatever the file says. */
static sow_code give_id(const char *content, size_t bytes, int64_t id, text_vocab *vocab, int64_t *n_new, int32_t *out)
{
    int32_t known = sow_text_vocab_find(vocab, content, bytes);
    int64_t right = known >= 0 ? known : vocab->n_model + *n_new;
    if (id != right)
        return SOW_FAIL(SOW_EFORMAT, "id %" PRId64 " of '%.100s' must be %" PRId64 "%s", id, content, right,
                        known >= 0 ? ", as in the vocabulary" : ", the next free one");
    if (known >= 0) {
        *out = known;
        return SOW_OK;
    }
    SOW_TRY(sow_text_vocab_add(vocab, content, bytes, id));
    ++*n_new;
    *out = (int32_t)id;
    return SOW_OK;
}

static sow_code read_token(const sow_json *node, const char *where, text_vocab *vocab, text_normalizer *normalizer,
                           int64_t *n_new, text_added_token *out)
{
    SOW_TRY(sow_text_check_keys(node, where, "id content single_word lstrip rstrip normalized special"));
    const char *content = NULL;
    size_t bytes = 0;
    SOW_TRY(sow_text_get_string(node, where, "content", &content, &bytes));
    if (bytes == 0)
        return SOW_FAIL(SOW_EFORMAT, "%s.content: is empty", where);
    int64_t id = -1;
    SOW_TRY(sow_text_get_int(node, where, "id", 0, INT32_MAX, &id));
    bool is_special = false;
    SOW_TRY(sow_text_get_bool(node, where, "special", &is_special));
    out->is_normalized = !is_special;
    SOW_TRY(sow_text_get_bool(node, where, "normalized", &out->is_normalized));
    SOW_TRY(sow_text_get_bool(node, where, "single_word", &out->is_single_word));
    SOW_TRY(sow_text_get_bool(node, where, "lstrip", &out->is_lstrip));
    SOW_TRY(sow_text_get_bool(node, where, "rstrip", &out->is_rstrip));
    sow_code rc = give_id(content, bytes, id, vocab, n_new, &out->id);
    if (rc == SOW_EFORMAT)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s", where, sow_error_text());
    SOW_TRY(rc);
    text_token *token = &vocab->tokens[out->id];
    if (token->is_added)
        return SOW_FAIL(SOW_EFORMAT, "%s: '%.100s' is there twice", where, content);
    token->is_added = true;
    token->is_special = is_special;
    if (out->is_normalized)
        SOW_TRY(sow_text_normalizer_apply(normalizer, content, bytes, &content, &bytes));
    if (bytes == 0)
        return SOW_FAIL(SOW_EFORMAT, "%s.content: is empty once it is normalized", where);
    out->bytes = bytes;
    return sow_text_copy(content, bytes, &out->pattern);
}

/* The sets one after the other, each in the order of bytes. */
static int compare(const void *a, const void *b)
{
    const text_added_token *x = a, *y = b;
    if (x->is_normalized != y->is_normalized)
        return x->is_normalized ? 1 : -1;
    int order = memcmp(x->pattern, y->pattern, x->bytes < y->bytes ? x->bytes : y->bytes);
    if (order != 0)
        return order;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static sow_code prepare(text_added *added)
{
    bool has_single_word = false;
    if (added->n > 0)
        qsort(added->tokens, (size_t)added->n, sizeof *added->tokens, compare);
    for (int64_t i = 0; i < added->n; i++) {
        const text_added_token *token = &added->tokens[i];
        if (token->bytes > 0)
            added->has_first[token->is_normalized][(unsigned char)token->pattern[0]] = true;
        added->n_sets[token->is_normalized]++;
        has_single_word = has_single_word || token->is_single_word;
    }
    return has_single_word ? sow_pattern_compile(WORD, false, &added->word) : SOW_OK;
}

sow_code sow_text_added_read(const sow_json *node, const char *where, text_vocab *vocab, text_normalizer *normalizer,
                             text_added *out)
{
    if (node == NULL || sow_json_kind_of(node) == SOW_JSON_NULL)
        return SOW_OK;
    if (sow_json_kind_of(node) != SOW_JSON_ARRAY)
        return SOW_FAIL(SOW_EFORMAT, "%s: is no list", where);
    int64_t n_new = 0;
    for (int64_t i = 0; i < sow_json_size(node); i++) {
        char place[512];
        (void)snprintf(place, sizeof place, "%s[%" PRId64 "]", where, i);
        SOW_TRY(SOW_GROW(&out->tokens, &out->capacity, out->n));
        text_added_token *token = &out->tokens[out->n++];
        SOW_TRY(read_token(sow_json_at(node, i), place, vocab, normalizer, &n_new, token));
    }
    return prepare(out);
}

void sow_text_added_fini(text_added *added)
{
    for (int64_t i = 0; i < added->n; i++)
        SOW_FREE(&added->tokens[i].pattern);
    SOW_FREE(&added->tokens);
    sow_pattern_destroy(&added->word);
    *added = (text_added){0};
}

/* ---- finding ---- */

/* The first pattern of [low, high) whose byte at `depth` is at least `byte`; all are longer than depth. */
static int64_t lower_bound(const text_added_token *tokens, int64_t low, int64_t high, size_t depth, int byte)
{
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if ((unsigned char)tokens[middle].pattern[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest token of [low, high) that the text begins with, or NULL. */
static const text_added_token *find_longest(const text_added *added, int64_t low, int64_t high, const char *text,
                                            size_t bytes)
{
    const text_added_token *longest = NULL;
    for (size_t depth = 0; low < high; depth++) {
        if (added->tokens[low].bytes == depth && depth > 0)
            longest = &added->tokens[low];
        while (low < high && added->tokens[low].bytes == depth)
            low++;
        if (depth == bytes)
            break;
        int byte = (unsigned char)text[depth];
        low = lower_bound(added->tokens, low, high, depth, byte);
        high = lower_bound(added->tokens, low, high, depth, byte + 1);
    }
    return longest;
}

/* Whether the character that begins at text[start] belongs to a word. */
static sow_code is_word_at(const text_added *added, const char *text, size_t start, bool *out)
{
    size_t end = start;
    uint32_t c = sow_text_char(text, &end);
    if (c == '_' ||
        (c < 0x80 && strchr("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", (int)c) != NULL &&
         c != 0)) {
        *out = true;
        return SOW_OK;
    }
    char known[4];
    size_t match[2];
    return sow_pattern_search(added->word, known, sow_text_char_write(sow_text_known_char(c), known), 0, out, match);
}

static size_t char_before(const char *text, size_t at)
{
    do
        at--;
    while (((unsigned char)text[at] & 0xC0) == 0x80);
    return at;
}

/* Whether a token that must be a word of its own is one at [start, end). */
static sow_code check_word(const text_added *added, const char *text, size_t bytes, size_t start, size_t end, bool *out)
{
    bool is_joined = false;
    if (start > 0)
        SOW_TRY(is_word_at(added, text, char_before(text, start), &is_joined));
    if (!is_joined && end < bytes)
        SOW_TRY(is_word_at(added, text, end, &is_joined));
    *out = !is_joined;
    return SOW_OK;
}

/* Takes in the spaces before and behind a token, where it asks for it; before `from` they are not its own. */
static void widen(const text_added_token *token, const char *text, size_t bytes, size_t from, size_t *start,
                  size_t *end)
{
    while (token->is_lstrip && *start > from) {
        size_t before = char_before(text, *start), at = before;
        if (!sow_text_is_space(sow_text_char(text, &at)))
            break;
        *start = before;
    }
    if (token->is_lstrip && *start < from)
        *start = from;
    while (token->is_rstrip && *end < bytes) {
        size_t at = *end;
        if (!sow_text_is_space(sow_text_char(text, &at)))
            break;
        *end = at;
    }
}

static sow_code add_cut(text_cuts *out, size_t start, size_t end, int32_t id)
{
    SOW_TRY(SOW_GROW(&out->cuts, &out->capacity, out->n));
    out->cuts[out->n++] = (text_cut){start, end, id};
    return SOW_OK;
}

sow_code sow_text_added_cut(const text_added *added, int set, const char *text, size_t bytes, text_cuts *out)
{
    int64_t low = set == 0 ? 0 : added->n_sets[0], high = low + added->n_sets[set];
    size_t done = 0; /* cut up to here */
    out->n = 0;
    for (size_t at = 0; at < bytes && low < high;) {
        const text_added_token *token = NULL;
        if (added->has_first[set][(unsigned char)text[at]])
            token = find_longest(added, low, high, text + at, bytes - at);
        if (token == NULL) {
            at++;
            continue;
        }
        size_t start = at, end = at + token->bytes;
        at = end;
        bool is_wanted = true;
        if (token->is_single_word)
            SOW_TRY(check_word(added, text, bytes, start, end, &is_wanted));
        if (!is_wanted)
            continue;
        widen(token, text, bytes, done, &start, &end);
        if (done < start)
            SOW_TRY(add_cut(out, done, start, -1));
        if (start < end) /* not if the token before took it all in */
            SOW_TRY(add_cut(out, start, end, token->id));
        done = end;
    }
    return done < bytes ? add_cut(out, done, bytes, -1) : SOW_OK;
}
