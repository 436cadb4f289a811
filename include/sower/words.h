/* SPDX-License-Identifier: Apache-2.0 */
/* Text: a string that grows, strict numbers, and the nearest of some names.
 *
 * Needs: error, alloc.  Threads: one object, one thread. */
#ifndef SOWER_WORDS_H
#define SOWER_WORDS_H

#include "sower/error.h"

#include <stdbool.h>

/* A growing string; start with {0}.  `text` is NULL or NUL-terminated after every call; it may hold NULs. */
typedef struct sow_words {
    char *text; /* owned */
    size_t bytes;
    int64_t capacity;
} sow_words;

/* Gives back the memory; empties and keeps it. */
void sow_words_fini(sow_words *words);
void sow_words_clear(sow_words *words);
SOW_NODISCARD sow_code sow_words_add(sow_words *words, const void *text, size_t bytes);
SOW_NODISCARD sow_code sow_words_print(sow_words *words, const char *fmt, ...) SOW_PRINTF(2, 3);

/* The whole text as a number: false for anything before or behind it, overflow, nan and inf. */
bool sow_words_to_int(const char *text, int64_t *out);
bool sow_words_to_real(const char *text, double *out);

/* Levenshtein's distance, and the nearest of n names if it is near enough to be meant (else NULL). */
int sow_words_distance(const char *a, const char *b);
const char *sow_words_nearest(const char *name, const char *const *names, int64_t n);

/* Whether `text` matches a shell pattern (fnmatch without flags). */
bool sow_words_match(const char *pattern, const char *text);

/* Whether the bytes are well-formed UTF-8 (RFC 3629). */
bool sow_words_is_utf8(const void *text, size_t bytes);

#endif
