/* SPDX-License-Identifier: Apache-2.0 */
/* Signs: every element is +1 or -1, one random bit each (the perturbation of SPSA, Spall 1992).  Mean and variance are
 * those of the Gaussian, the fourth moment is 1 instead of 3, and drawing costs next to nothing. */
#include "noise_impl.h"

static sow_place place(uint32_t seed, uint32_t generation, uint32_t member, uint32_t tensor)
{
    return sow_place_of(SOW_STREAM_NOISE, seed, generation, member, tensor);
}

const sow_noise sow_noise_rademacher = {
    .name = "rademacher",
    .doc = "independent signs +1 and -1, full rank",
    .loop = SOW_NOISE_RADEMACHER,
    .place = place,
};
