/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/philox.h"

#include "sower/error.h"

#include <string.h>

sow_place sow_place_of(sow_stream stream, uint32_t seed, uint32_t generation, uint32_t member, uint32_t tensor)
{
    SOW_ASSERT(member < 1U << 28);
    return (sow_place){.key = {seed, generation}, .stream = {(uint32_t)stream << 28 | member, tensor}};
}

void sow_random_init(sow_random *random, sow_place place)
{
    *random = (sow_random){.place = place};
}

uint32_t sow_random_next(sow_random *random)
{
    if (random->left == 0) {
        uint64_t words[4] = {random->index, random->index >> 32, random->place.stream[0], random->place.stream[1]};
        words[0] &= 0xffffffff;
        sow_philox4x32(random->place.key, words);
        for (int i = 0; i < 4; i++)
            random->words[i] = (uint32_t)words[i];
        random->index++;
        random->left = 4;
    }
    return random->words[4 - random->left--];
}

uint32_t sow_random_below(sow_random *random, uint32_t n)
{
    SOW_ASSERT(n >= 1);
    uint32_t rest = (uint32_t)((UINT64_C(1) << 32) % n); /* values at the end that would favour some */
    for (;;) {
        uint32_t x = sow_random_next(random);
        if (rest == 0 || x < UINT32_MAX - rest + 1)
            return x % n;
    }
}

void sow_random_shuffle(sow_random *random, void *items, int64_t n, size_t item_bytes)
{
    unsigned char spare[64], *base = items;
    SOW_ASSERT(item_bytes <= sizeof spare && n <= UINT32_MAX);
    for (int64_t i = n - 1; i > 0; i--) {
        size_t j = sow_random_below(random, (uint32_t)i + 1);
        memcpy(spare, base + (size_t)i * item_bytes, item_bytes);
        memcpy(base + (size_t)i * item_bytes, base + j * item_bytes, item_bytes);
        memcpy(base + j * item_bytes, spare, item_bytes);
    }
}
