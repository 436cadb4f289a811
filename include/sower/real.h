/* SPDX-License-Identifier: Apache-2.0 */
/* Real functions in double: made of + - * / in a fixed order, so that they have the same bits with every libc.
 *
 * Needs: libm's exact functions (floor, frexp, ldexp, fmod).  Threads: pure functions.
 *
 * A libc's own exp or sin may differ from another's in the last bit, and then what is computed from it would.  For many
 * float32 numbers there are the vectorised exp and log of kernels.h. */
#ifndef SOWER_REAL_H
#define SOWER_REAL_H

/* e^x, within 1e-15 of it relatively where it is normal; 0 and infinity beyond, NaN for NaN. */
double sow_real_exp(double x);
/* Natural logarithm, within 1e-14 for x up to 1e15; x is positive and normal. */
double sow_real_log(double x);
/* Of an angle in radians, 0 to 2e6: within 1e-15. */
void sow_real_sincos(double angle, double *sine, double *cosine);

#endif
