/* SPDX-License-Identifier: Apache-2.0 */
/* Byte-pair encoding (Sennrich et al. 2016): the characters of a piece are tokens, and neighbours are merged, the pair
 * of the lowest rank first, the leftmost first among equals.
 *
 *   symbols   a doubly linked list over the piece's characters; a merge removes the right one
 *   heap      candidate merges by (rank, position); an entry whose pair has changed since is dropped when it comes up
 *
 * O(n log n) for a piece of n characters.  Short pieces are remembered in a direct-mapped cache.
 *
 * What Hugging Face's library does in the corners is done here too: a merge that is there twice has its last rank, a
 * character that is unknown (no token, no bytes, no unk token) is left out, and an entry that is out of date still
 * counts if its pair by now makes the same token. */
#include "text_impl.h"

#include "sower/alloc.h"
#include "sower/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct merge {
    int32_t left, right; /* left -1: an empty slot */
    int32_t rank, id;
} merge;

typedef struct symbol {
    int32_t id, prev, next; /* positions, -1 at the ends */
    bool is_gone;
} symbol;

typedef struct candidate {
    uint64_t key; /* rank << 32 | position: the order of the heap */
    int32_t id;
} candidate;

enum {
    CACHE_SLOTS = 8192, /* a power of two */
    CACHE_BYTES = 30,
    CACHE_IDS = 8,
    N_CHARS = 1024 /* characters below have their token in a table */
};

typedef struct remembered {
    uint8_t bytes, n; /* bytes 0: empty */
    char piece[CACHE_BYTES];
    int32_t ids[CACHE_IDS];
} remembered;

struct text_bpe {
    const text_vocab *vocab; /* borrowed from the tokenizer, which outlives this */
    merge *merges;           /* owned, [n_slots] */
    int64_t n_slots;
    int32_t unk; /* -1: none */
    bool has_fused_unk, has_byte_fallback, is_ignoring_merges;
    int32_t chars[N_CHARS]; /* -1: no token */
    int32_t byte_ids[256];  /* of <0x00> to <0xFF> */
    symbol *symbols;        /* owned, scratch */
    int64_t n_symbols, symbol_capacity;
    candidate *heap; /* owned, scratch */
    int64_t n_heap, heap_capacity;
    remembered *cache; /* owned, [CACHE_SLOTS] */
};

/* ---- merges ---- */

static merge *find_merge(const text_bpe *bpe, int32_t left, int32_t right)
{
    uint64_t mask = (uint64_t)bpe->n_slots - 1;
    uint64_t slot = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    slot = (slot ^ slot >> 32) & mask;
    while (bpe->merges[slot].left >= 0 && (bpe->merges[slot].left != left || bpe->merges[slot].right != right))
        slot = (slot + 1) & mask;
    return &bpe->merges[slot];
}

/* The two halves of a merge: ["left", "right"], or "left right" with exactly one space. */
static sow_code read_halves(const sow_json *node, const char *halves[2], size_t bytes[2])
{
    if (sow_json_kind_of(node) == SOW_JSON_ARRAY && sow_json_size(node) == 2) {
        halves[0] = sow_json_to_string(sow_json_at(node, 0), &bytes[0]);
        halves[1] = sow_json_to_string(sow_json_at(node, 1), &bytes[1]);
        if (halves[0] != NULL && halves[1] != NULL)
            return SOW_OK;
        return SOW_FAIL(SOW_EFORMAT, "is no pair of strings");
    }
    size_t total = 0;
    const char *text = sow_json_to_string(node, &total);
    if (text == NULL)
        return SOW_FAIL(SOW_EFORMAT, "is neither \"left right\" nor [\"left\", \"right\"]");
    const char *space = memchr(text, ' ', total);
    if (space == NULL || memchr(space + 1, ' ', total - (size_t)(space - text) - 1) != NULL)
        return SOW_FAIL(SOW_EFORMAT, "'%.100s' does not hold exactly one space", text);
    halves[0] = text;
    bytes[0] = (size_t)(space - text);
    halves[1] = space + 1;
    bytes[1] = total - bytes[0] - 1;
    return SOW_OK;
}

static sow_code read_merge(text_bpe *bpe, const sow_json *node, int64_t rank, sow_words *joined)
{
    const char *halves[2] = {NULL, NULL};
    size_t bytes[2] = {0, 0};
    int32_t ids[2] = {-1, -1};
    SOW_TRY(read_halves(node, halves, bytes));
    sow_words_clear(joined);
    for (int i = 0; i < 2; i++) {
        ids[i] = sow_text_vocab_find_model(bpe->vocab, halves[i], bytes[i]);
        if (ids[i] < 0)
            return SOW_FAIL(SOW_EFORMAT, "'%.*s' is not in the vocabulary", (int)(bytes[i] < 100 ? bytes[i] : 100),
                            halves[i]);
        SOW_TRY(sow_words_add(joined, halves[i], bytes[i]));
    }
    int32_t id = sow_text_vocab_find_model(bpe->vocab, joined->text, joined->bytes);
    if (id < 0)
        return SOW_FAIL(SOW_EFORMAT, "makes '%.100s', which is not in the vocabulary", joined->text);
    *find_merge(bpe, ids[0], ids[1]) = (merge){ids[0], ids[1], (int32_t)rank, id};
    return SOW_OK;
}

static sow_code read_merges(text_bpe *bpe, const sow_json *list, const char *where)
{
    if (sow_json_kind_of(list) != SOW_JSON_ARRAY)
        return SOW_FAIL(SOW_EFORMAT, "%s.merges: is missing or no list", where);
    int64_t n = sow_json_size(list);
    if (n > INT32_MAX / 4)
        return SOW_FAIL(SOW_EFORMAT, "%s.merges: %" PRId64 " are too many", where, n);
    bpe->n_slots = 16;
    while (bpe->n_slots < 2 * n)
        bpe->n_slots *= 2;
    SOW_TRY(SOW_ALLOC(&bpe->merges, bpe->n_slots));
    for (int64_t i = 0; i < bpe->n_slots; i++)
        bpe->merges[i].left = -1;
    sow_words joined = {0};
    sow_code rc = SOW_OK;
    for (int64_t i = 0; i < n && rc == SOW_OK; i++) {
        rc = read_merge(bpe, sow_json_at(list, i), i, &joined);
        if (rc == SOW_EFORMAT)
            rc = SOW_FAIL(SOW_EFORMAT, "%s.merges[%" PRId64 "]: %s", where, i, sow_error_text());
    }
    sow_words_fini(&joined);
    return rc;
}

/* ---- reading the model ---- */

static sow_code read_flags(text_bpe *bpe, const sow_json *model, const char *where)
{
    SOW_TRY(
        sow_text_check_keys(model, where,
                            "type vocab merges dropout unk_token continuing_subword_prefix end_of_word_suffix fuse_unk "
                            "byte_fallback ignore_merges"));
    SOW_TRY(sow_text_get_bool(model, where, "fuse_unk", &bpe->has_fused_unk));
    SOW_TRY(sow_text_get_bool(model, where, "byte_fallback", &bpe->has_byte_fallback));
    SOW_TRY(sow_text_get_bool(model, where, "ignore_merges", &bpe->is_ignoring_merges));
    double dropout = 0;
    const sow_json *node = sow_json_get(model, "dropout");
    bool is_null = node == NULL || sow_json_kind_of(node) == SOW_JSON_NULL;
    if (!is_null && (!sow_json_to_real(node, &dropout) || dropout < 0 || dropout > 0))
        return SOW_FAIL(SOW_EFORMAT, "%s.dropout: is neither null nor 0; random tokens are not supported", where);
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        node = sow_json_get(model, affixes[i]);
        size_t bytes = 1;
        if (node == NULL || sow_json_kind_of(node) == SOW_JSON_NULL)
            continue;
        if (sow_json_to_string(node, &bytes) == NULL || bytes > 0)
            return SOW_FAIL(SOW_EFORMAT, "%s.%s: is neither null nor empty, which is not supported", where, affixes[i]);
    }
    bpe->unk = -1;
    node = sow_json_get(model, "unk_token");
    if (node == NULL || sow_json_kind_of(node) == SOW_JSON_NULL)
        return SOW_OK;
    const char *unk = NULL;
    size_t bytes = 0;
    SOW_TRY(sow_text_get_string(model, where, "unk_token", &unk, &bytes));
    bpe->unk = sow_text_vocab_find_model(bpe->vocab, unk, bytes);
    return bpe->unk >= 0 ? SOW_OK
                         : SOW_FAIL(SOW_EFORMAT, "%s.unk_token: '%.100s' is not in the vocabulary", where, unk);
}

static void fill_tables(text_bpe *bpe)
{
    for (uint32_t c = 0; c < N_CHARS; c++) {
        char text[4];
        bpe->chars[c] = sow_text_vocab_find_model(bpe->vocab, text, sow_text_char_write(c, text));
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[8];
        (void)snprintf(text, sizeof text, "<0x%02X>", byte);
        bpe->byte_ids[byte] = sow_text_vocab_find_model(bpe->vocab, text, 6);
    }
}

sow_code sow_text_bpe_read(const sow_json *model, const text_vocab *vocab, const char *where, text_bpe **out)
{
    text_bpe *bpe = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(SOW_ALLOC(&bpe, 1));
    bpe->vocab = vocab;
    SOW_TRY_OR(rc, read_flags(bpe, model, where));
    SOW_TRY_OR(rc, read_merges(bpe, sow_json_get(model, "merges"), where));
    SOW_TRY_OR(rc, SOW_ALLOC(&bpe->cache, CACHE_SLOTS));
    fill_tables(bpe);
    *out = bpe;
    bpe = NULL;
done:
    sow_text_bpe_destroy(&bpe);
    return rc;
}

void sow_text_bpe_destroy(text_bpe **bpe)
{
    if (*bpe == NULL)
        return;
    SOW_FREE(&(*bpe)->cache);
    SOW_FREE(&(*bpe)->heap);
    SOW_FREE(&(*bpe)->symbols);
    SOW_FREE(&(*bpe)->merges);
    SOW_FREE(bpe);
}

/* ---- a piece: its characters as symbols ---- */

static sow_code add_symbol(text_bpe *bpe, int32_t id)
{
    int32_t at = (int32_t)bpe->n_symbols;
    SOW_TRY(SOW_GROW(&bpe->symbols, &bpe->symbol_capacity, bpe->n_symbols));
    if (at > 0)
        bpe->symbols[at - 1].next = at;
    bpe->symbols[bpe->n_symbols++] = (symbol){id, at - 1, -1, false};
    return SOW_OK;
}

/* The byte tokens of a character; *is_done false if one is missing. */
static sow_code add_byte_symbols(text_bpe *bpe, const char *text, size_t bytes, bool *is_done)
{
    *is_done = true;
    for (size_t i = 0; i < bytes; i++)
        *is_done = *is_done && bpe->byte_ids[(unsigned char)text[i]] >= 0;
    for (size_t i = 0; i < bytes && *is_done; i++)
        SOW_TRY(add_symbol(bpe, bpe->byte_ids[(unsigned char)text[i]]));
    return SOW_OK;
}

/* An unk token waits until a known character comes: then, or at the end, it is one symbol.  With fuse_unk several are
 * one. */
static sow_code add_symbols(text_bpe *bpe, const char *piece, size_t bytes)
{
    bool is_unk_waiting = false;
    bpe->n_symbols = 0;
    for (size_t at = 0; at < bytes;) {
        size_t start = at;
        uint32_t c = sow_text_char(piece, &at);
        int32_t id = c < N_CHARS ? bpe->chars[c] : sow_text_vocab_find_model(bpe->vocab, piece + start, at - start);
        if (id >= 0) {
            if (is_unk_waiting)
                SOW_TRY(add_symbol(bpe, bpe->unk));
            is_unk_waiting = false;
            SOW_TRY(add_symbol(bpe, id));
            continue;
        }
        bool is_done = false;
        if (bpe->has_byte_fallback)
            SOW_TRY(add_byte_symbols(bpe, piece + start, at - start, &is_done));
        if (is_done || bpe->unk < 0)
            continue;
        if (is_unk_waiting && !bpe->has_fused_unk)
            SOW_TRY(add_symbol(bpe, bpe->unk));
        is_unk_waiting = true;
    }
    return is_unk_waiting ? add_symbol(bpe, bpe->unk) : SOW_OK;
}

/* ---- the heap of candidates: the lowest key on top ---- */

static void sift_up(candidate *heap, int64_t i)
{
    candidate c = heap[i];
    for (; i > 0 && heap[(i - 1) / 2].key > c.key; i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = c;
}

static void sift_down(candidate *heap, int64_t n, int64_t i)
{
    candidate c = heap[i];
    for (int64_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && heap[child + 1].key < heap[child].key)
            child++;
        if (heap[child].key >= c.key)
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = c;
}

/* The pair that begins at a position becomes a candidate if it can be merged. */
static sow_code add_candidate(text_bpe *bpe, int32_t at)
{
    const symbol *left = &bpe->symbols[at];
    const merge *m = find_merge(bpe, left->id, bpe->symbols[left->next].id);
    if (m->left < 0)
        return SOW_OK;
    SOW_TRY(SOW_GROW(&bpe->heap, &bpe->heap_capacity, bpe->n_heap));
    bpe->heap[bpe->n_heap] = (candidate){(uint64_t)m->rank << 32 | (uint32_t)at, m->id};
    sift_up(bpe->heap, bpe->n_heap++);
    return SOW_OK;
}

static candidate take_candidate(text_bpe *bpe)
{
    candidate top = bpe->heap[0];
    bpe->heap[0] = bpe->heap[--bpe->n_heap];
    if (bpe->n_heap > 1)
        sift_down(bpe->heap, bpe->n_heap, 0);
    return top;
}

static sow_code merge_symbols(text_bpe *bpe)
{
    bpe->n_heap = 0;
    for (int64_t i = 0; i + 1 < bpe->n_symbols; i++)
        SOW_TRY(add_candidate(bpe, (int32_t)i));
    while (bpe->n_heap > 0) {
        candidate top = take_candidate(bpe);
        int32_t at = (int32_t)(top.key & 0xFFFFFFFFu);
        symbol *left = &bpe->symbols[at];
        if (left->is_gone || left->next < 0)
            continue;
        symbol *right = &bpe->symbols[left->next];
        const merge *m = find_merge(bpe, left->id, right->id);
        if (m->left < 0 || m->id != top.id)
            continue;
        left->id = top.id;
        left->next = right->next;
        right->is_gone = true;
        if (left->next >= 0)
            bpe->symbols[left->next].prev = at;
        if (left->prev >= 0)
            SOW_TRY(add_candidate(bpe, left->prev));
        if (left->next >= 0)
            SOW_TRY(add_candidate(bpe, at));
    }
    return SOW_OK;
}

/* ---- the cache ---- */

static remembered *cache_slot(const text_bpe *bpe, const char *piece, size_t bytes)
{
    return &bpe->cache[sow_hash_bytes(piece, bytes).low & (CACHE_SLOTS - 1)];
}

/* Keeps ids[from..] as those of the piece. */
static void remember(text_bpe *bpe, const char *piece, size_t bytes, const sow_ids *ids, int64_t from)
{
    int64_t n = ids->n - from;
    if (bytes > CACHE_BYTES || n > CACHE_IDS)
        return;
    remembered *slot = cache_slot(bpe, piece, bytes);
    slot->bytes = (uint8_t)bytes;
    slot->n = (uint8_t)n;
    memcpy(slot->piece, piece, bytes);
    for (int64_t i = 0; i < n; i++)
        slot->ids[i] = ids->ids[from + i];
}

static const remembered *recall(const text_bpe *bpe, const char *piece, size_t bytes)
{
    if (bytes > CACHE_BYTES)
        return NULL;
    const remembered *slot = cache_slot(bpe, piece, bytes);
    return slot->bytes == bytes && memcmp(slot->piece, piece, bytes) == 0 ? slot : NULL;
}

sow_code sow_text_bpe_encode(text_bpe *bpe, const char *piece, size_t bytes, sow_ids *out)
{
    if (bytes > INT32_MAX)
        return SOW_FAIL(SOW_EARG, "a piece of %zu bytes is too long for the tokenizer", bytes);
    int32_t whole = bpe->is_ignoring_merges ? sow_text_vocab_find_model(bpe->vocab, piece, bytes) : -1;
    if (whole >= 0)
        return sow_ids_add(out, whole);
    const remembered *known = recall(bpe, piece, bytes);
    if (known != NULL) {
        for (int i = 0; i < known->n; i++)
            SOW_TRY(sow_ids_add(out, known->ids[i]));
        return SOW_OK;
    }
    SOW_TRY(add_symbols(bpe, piece, bytes));
    SOW_TRY(merge_symbols(bpe));
    int64_t before = out->n;
    for (int64_t i = 0; i < bpe->n_symbols; i++)
        if (!bpe->symbols[i].is_gone)
            SOW_TRY(sow_ids_add(out, bpe->symbols[i].id));
    remember(bpe, piece, bytes, out, before);
    return SOW_OK;
}
