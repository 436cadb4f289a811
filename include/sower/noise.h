/* SPDX-License-Identifier: Apache-2.0 */
/* Perturbations: from (seed, generation, member, tensor) to place and loop of a tensor's noise.  The loops are la's.
 *
 * Needs: kernels (sow_place, sow_noise_loop), words.  Threads: pure functions.  Ranks: knows none.
 *
 * A perturbation is a row of noises.def and a file src/noise/NAME.c (docs/HOWTO-add-a-perturbation.md). */
#ifndef SOWER_NOISE_H
#define SOWER_NOISE_H

#include "sower/kernels.h"

typedef struct sow_noise {
    const char *name, *doc;
    sow_noise_loop loop;
    /* The place of a tensor's noise. */
    sow_place (*place)(uint32_t seed, uint32_t generation, uint32_t member, uint32_t tensor);
} sow_noise;

int64_t sow_noise_count(void);
const sow_noise *sow_noise_at(int64_t index);
/* NULL if there is none of that name. */
const sow_noise *sow_noise_find(const char *name);

/* With mirrored pairs members 2j and 2j+1 share the noise of j with signs + and -. */
typedef struct sow_member_noise {
    uint32_t member; /* whose noise */
    float sign;      /* +1, -1 */
} sow_member_noise;
sow_member_noise sow_noise_of_member(int64_t member, bool is_mirrored);

/* Whether a tensor's name is chosen by `es.tensors` ("*", "*.weight,!*norm*"): shell patterns in order, the last that
 * matches wins; a list that begins with an exclusion starts from all.  Blanks around commas do not count. */
bool sow_noise_selects(const char *patterns, const char *tensor_name);

#endif
