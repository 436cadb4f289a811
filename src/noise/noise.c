/* SPDX-License-Identifier: Apache-2.0 */
/* The table of perturbations, mirrored pairs, and which tensors are perturbed. */
#include "noise_impl.h"

#include "sower/words.h"

#include <string.h>

static const sow_noise *const noises[] = {
#define NOISE(name) &sow_noise_##name,
#include "noises.def"
#undef NOISE
};

int64_t sow_noise_count(void)
{
    return (int64_t)(sizeof noises / sizeof noises[0]);
}

const sow_noise *sow_noise_at(int64_t index)
{
    SOW_ASSERT(index >= 0 && index < sow_noise_count());
    return noises[index];
}

const sow_noise *sow_noise_find(const char *name)
{
    for (int64_t i = 0; i < sow_noise_count(); i++)
        if (strcmp(noises[i]->name, name) == 0)
            return noises[i];
    return NULL;
}

sow_member_noise sow_noise_of_member(int64_t member, bool is_mirrored)
{
    SOW_ASSERT(member >= 0 && member < 1 << 28); /* the bits that a place has for it */
    if (!is_mirrored)
        return (sow_member_noise){.member = (uint32_t)member, .sign = 1};
    return (sow_member_noise){.member = (uint32_t)(member / 2), .sign = member % 2 == 0 ? 1 : -1};
}

enum { PATTERN_BYTES = 512 }; /* a list that is longer is no option of ours */

bool sow_noise_selects(const char *patterns, const char *tensor_name)
{
    char pattern[PATTERN_BYTES];
    const char *at = patterns + strspn(patterns, " ");
    bool is_selected = *at == '!'; /* a list that begins with an exclusion starts from all */
    while (*at != '\0') {
        size_t n = strcspn(at, ","), used = n;
        SOW_ASSERT(n < sizeof pattern);
        while (used > 0 && at[used - 1] == ' ')
            used--;
        memcpy(pattern, at, used);
        pattern[used] = '\0';
        bool is_exclusion = pattern[0] == '!';
        if (sow_words_match(pattern + is_exclusion, tensor_name))
            is_selected = !is_exclusion;
        at += n + (at[n] == ',');
        at += strspn(at, " ");
    }
    return is_selected;
}
