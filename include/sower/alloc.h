/* SPDX-License-Identifier: Apache-2.0 */
/* Counted memory: every block of the program comes from here, zeroed and on a 64-byte boundary.
 *
 * Needs: error.  Threads: all calls are safe from any thread.  Ranks: knows none. */
#ifndef SOWER_ALLOC_H
#define SOWER_ALLOC_H

#include "sower/error.h"

/* Zeroed memory for n items of item_bytes, 64-byte aligned; SOW_ENOMEM on overflow of the product or when there is
 * none. `*out` is untouched on failure. */
SOW_NODISCARD sow_code sow_alloc(void **out, size_t n, size_t item_bytes);
#define SOW_ALLOC(out, n) sow_alloc((void **)(out), (size_t)(n), sizeof **(out))

/* Makes room for n items in *block, which holds old_n: the old content is kept, the rest is zero.  *block may be NULL.
 * */
SOW_NODISCARD sow_code sow_alloc_resize(void **block, size_t old_n, size_t n, size_t item_bytes);
#define SOW_RESIZE(block, old_n, n) sow_alloc_resize((void **)(block), (size_t)(old_n), (size_t)(n), sizeof **(block))

/* Grows *block so that item `n` exists (capacity doubles, *capacity is updated). */
#define SOW_GROW(block, capacity, n) sow_alloc_grow((void **)(block), (capacity), (n), sizeof **(block))
SOW_NODISCARD sow_code sow_alloc_grow(void **block, int64_t *capacity, int64_t n, size_t item_bytes);

/* A copy of a string, to be freed with SOW_FREE. */
SOW_NODISCARD sow_code sow_alloc_string(char **out, const char *text);

/* Frees *p and sets it to NULL; *p may be NULL. */
void sow_free(void **p);
#define SOW_FREE(p) sow_free((void **)(p))

/* Blocks alive now (0 when a program has let go of all it took), and blocks taken since the start. */
int64_t sow_alloc_live(void);
int64_t sow_alloc_taken(void);

/* For tests: the n-th allocation from now on fails (1: the next; 0: none). */
void sow_alloc_fail_at(int64_t n);

#endif
