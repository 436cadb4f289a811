/* SPDX-License-Identifier: Apache-2.0 */
/* rounding.c: the floating-point mode that all promises rest on: round to nearest even, subnormals kept.
 *
 * The mode is looked at by what it does, not by its register: that holds on every CPU, and no flag is forgotten.
 * Setting goes through fesetenv(FE_DFL_ENV), which clears flush-to-zero too (MXCSR: FZ, DAZ; FPCR: FZ). */
#include "la_impl.h"

#include <fenv.h>

#include <omp.h>

static bool is_right(void)
{
    /* volatile: else the compiler computes this in the right mode */
    volatile float one = 1.0f, half = 0.5f, above_half_ulp = 0x1.8p-24f, below_half_ulp = 0x1p-25f;
    volatile float least_normal = 0x1p-126f, least = 0x1p-149f;
    const bool keeps_results = least_normal * half != 0.0f, keeps_arguments = least * one != 0.0f;
    const bool is_nearest = one + above_half_ulp > one && one + below_half_ulp == one && -one - below_half_ulp == -one;
    return keeps_results && keeps_arguments && is_nearest;
}

/* The calling thread first and outside: LLVM's OpenMP gives its threads the caller's mode and brings that back at the
 * end. */
void sow_kernels_set_rounding(void)
{
    (void)fesetenv(FE_DFL_ENV);
#pragma omp parallel
    (void)fesetenv(FE_DFL_ENV);
}

sow_code sow_kernels_check_rounding(void)
{
    int n_wrong = 0;
#pragma omp parallel reduction(+ : n_wrong)
    n_wrong += is_right() ? 0 : 1;
    if (n_wrong == 0)
        return SOW_OK;
    return SOW_FAIL(
        SOW_ENUM,
        "floating-point mode: %d of %d threads do not round to nearest or flush subnormals to zero; expected the "
        "default mode (a plug-in built with -ffast-math changes it)",
        n_wrong, omp_get_max_threads());
}
