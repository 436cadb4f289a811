/* SPDX-License-Identifier: Apache-2.0 */
/* Full-rank Gaussian noise: every element of every tensor is its own standard normal number (Salimans et al. 2017,
 * arXiv 1703.03864; for language models Qiu et al. 2025, arXiv 2509.24372). */
#include "noise_impl.h"

static sow_place place(uint32_t seed, uint32_t generation, uint32_t member, uint32_t tensor)
{
    return sow_place_of(SOW_STREAM_NOISE, seed, generation, member, tensor);
}

const sow_noise sow_noise_gaussian = {
    .name = "gaussian",
    .doc = "independent standard normal numbers, full rank",
    .loop = SOW_NOISE_GAUSSIAN,
    .place = place,
};
