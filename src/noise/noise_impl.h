/* SPDX-License-Identifier: Apache-2.0 */
/* The perturbations of noises.def, for the table.
 *
 * Needs: noise. */
#ifndef SOWER_NOISE_IMPL_H
#define SOWER_NOISE_IMPL_H

#include "sower/noise.h"

#define NOISE(name) extern const sow_noise sow_noise_##name;
#include "noises.def"
#undef NOISE

#endif
