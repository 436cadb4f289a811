/* SPDX-License-Identifier: Apache-2.0 */
/* svd.c: singular values by LAPACK's divide and conquer (dgesdd).  The eigenvalues of the smaller product A A^T would
 * be cheaper, but lose every singular value below 1e-8 of the largest, and the rank of an update is read off there. */
#include "la_impl.h"

#include "sower/alloc.h"
#include "sower/la.h"

#include <limits.h>
#include <math.h>

#include <lapacke.h>

sow_code sow_la_singular_values(int64_t rows, int64_t cols, const float *a, double *out)
{
    double *copy = NULL;
    sow_code rc = SOW_OK;
    if (rows < 1 || cols < 1)
        return SOW_OK;
    if (rows > INT_MAX || cols > INT_MAX)
        return SOW_FAIL(SOW_ENUM, "singular values of %lld x %lld: more than %d rows or columns", (long long)rows,
                        (long long)cols, INT_MAX);
    SOW_TRY_OR(rc, SOW_ALLOC(&copy, rows * cols));
    for (int64_t i = 0; i < rows * cols; i++) {
        if (!isfinite(a[i])) {
            rc = SOW_FAIL(SOW_ENUM, "singular values of %lld x %lld: element (%lld, %lld) is not finite",
                          (long long)rows, (long long)cols, (long long)(i / cols), (long long)(i % cols));
            goto done;
        }
        copy[i] = (double)a[i];
    }
    /* Column-major, these are the values of the transpose: the same ones. */
    const lapack_int info = LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'N', (lapack_int)cols, (lapack_int)rows, copy,
                                           (lapack_int)cols, out, NULL, 1, NULL, 1);
    if (info == LAPACK_WORK_MEMORY_ERROR)
        rc = SOW_FAIL(SOW_ENOMEM, "out of memory for the singular values of %lld x %lld", (long long)rows,
                      (long long)cols);
    else if (info != 0)
        rc = SOW_FAIL(SOW_ENUM, "singular values of %lld x %lld did not converge (LAPACK dgesdd: %lld)",
                      (long long)rows, (long long)cols, (long long)info);
done:
    SOW_FREE(&copy);
    return rc;
}
