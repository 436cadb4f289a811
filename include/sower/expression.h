/* SPDX-License-Identifier: Apache-2.0 */
/* Expressions: the value of an arithmetic expression as Python's eval gives it, for graders that were written in
 * Python.
 *
 * Needs: error, alloc.  Threads: one workspace, one thread.  Bits: integers and IEEE double operations only, the same
 * everywhere.
 *
 * Whole numbers are exact up to 16,384 bits, `/` gives a double rounded once, `//` rounds down, `**` binds to the
 * right and tighter than a sign on its left, numbers with leading zeros are refused.  What Python refuses, or answers
 * with a complex number or a tuple, has no value here.  Neither has what is larger than 16,384 bits, deeper than 200
 * parentheses (Python's own limit), or has more than 2,900 signs in a row (Python 3.11: about 2,990). */
#ifndef SOWER_EXPRESSION_H
#define SOWER_EXPRESSION_H

#include "sower/error.h"

#include <stdbool.h>

/* Room to compute in, so that a value needs no allocation. */
typedef struct sow_expression sow_expression;
SOW_NODISCARD sow_code sow_expression_create(sow_expression **out);
void sow_expression_destroy(sow_expression **expression);

/* float(eval(text)): true and *out (which may be infinite or NaN) if it has a value, else false and *out untouched. */
bool sow_expression_value(sow_expression *expression, const char *text, size_t bytes, double *out);

/* Whether the runs of digits in the text are exactly these numbers, each once, in any order (n <= 32). */
bool sow_expression_uses(const char *text, size_t bytes, const int64_t *numbers, int64_t n);

#endif
