/* SPDX-License-Identifier: Apache-2.0 */
/* Regular expressions: a thin face on pcre2 (UTF mode, match limits), so that only `text` knows it.
 *
 * Needs: pcre2.  Threads: one pattern, one thread. */
#ifndef SOWER_PATTERN_H
#define SOWER_PATTERN_H

#include "sower/error.h"

#include <stdbool.h>

typedef struct sow_pattern sow_pattern;

/* SOW_EFORMAT with pcre2's words and the offset if the expression is wrong.  is_dotall: . matches newlines. */
SOW_NODISCARD sow_code sow_pattern_compile(const char *expression, bool is_dotall, sow_pattern **out);
void sow_pattern_destroy(sow_pattern **pattern);

/* First match at or after `from`: false if there is none (or the match limit was hit).  start/end are bytes; group 0
 * is the whole, up to n_groups pairs are written (unset groups: -1, -1). */
bool sow_pattern_find(sow_pattern *pattern, const char *text, size_t bytes, size_t from, int n_groups,
                      int64_t (*groups)[2]);

#endif
