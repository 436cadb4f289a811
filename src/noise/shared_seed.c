/* SPDX-License-Identifier: Apache-2.0 */
/* The noise of the paper's program (arXiv 2601.20861): its generator is restarted with the member's one seed before
 * every tensor, so that tensors of equal shape get equal noise, and a smaller one the beginning of a larger one's.  For
 * comparison with the independent kind. */
#include "noise_impl.h"

static sow_place place(uint32_t seed, uint32_t generation, uint32_t member, uint32_t tensor)
{
    (void)tensor;
    return sow_place_of(SOW_STREAM_NOISE, seed, generation, member, 0);
}

const sow_noise sow_noise_shared_seed = {
    .name = "shared-seed",
    .doc = "the paper's: normal numbers, the same ones for tensors of equal shape",
    .loop = SOW_NOISE_GAUSSIAN,
    .place = place,
};
