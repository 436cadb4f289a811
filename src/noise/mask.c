/* SPDX-License-Identifier: Apache-2.0 */
/* The table of masks.
 *
 * random             An element moves if its own random number, uniform in [0, 1), is below the density.
 * smallest, largest  The density * n elements (rounded) of smallest or largest size |base| move; of equal ones those
 *                    with the lowest index.  The bits of |base| are integers in the order of the sizes, so the size at
 *                    the border is found by counting: 11 bits of it, then 10, then the last 10. */
#include "sower/mask.h"

#include "sower/philox.h"

#include <string.h>

enum { WORD = 32, DIGITS = 3, MOST = 1 << 11 };

/* From the highest bits of a size down. */
static const int shifts[DIGITS] = {20, 10, 0}, widths[DIGITS] = {11, 10, 10};

static void set(uint32_t *words, int64_t element)
{
    words[element / WORD] |= UINT32_C(1) << element % WORD;
}

static int64_t fill_random(const sow_mask_args *args, uint32_t *words)
{
    const double limit = args->density * 0x1p32; /* exact */
    int64_t n_set = 0;
    sow_random random;
    sow_random_init(&random, sow_place_of(SOW_STREAM_MASK, args->seed, 0, 0, args->tensor));
    for (int64_t i = 0; i < args->n; i++)
        if ((double)sow_random_next(&random) < limit) {
            set(words, i);
            n_set++;
        }
    return n_set;
}

static uint32_t size_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffff;
}

/* Elements in the order of `flip` ^ size: 0 gives the smallest first, all ones the largest.  *n_below: how many lie
 * before the element of rank `rank` (from 0) without being equal to it; returns its key. */
static uint32_t find_border(const sow_mask_args *args, uint32_t flip, int64_t rank, int64_t *n_below)
{
    uint32_t border = 0;
    *n_below = 0;
    for (int digit = 0; digit < DIGITS; digit++) {
        int64_t counts[MOST] = {0}, at = 0;
        const int shift = shifts[digit], above = shift + widths[digit];
        for (int64_t i = 0; i < args->n; i++) {
            const uint32_t key = size_of(args->base[i]) ^ flip;
            if (key >> above == border >> above)
                counts[key >> shift & ((1U << widths[digit]) - 1)]++;
        }
        while (*n_below + counts[at] <= rank)
            *n_below += counts[at++];
        border |= (uint32_t)at << shift;
    }
    return border;
}

static int64_t fill_by_size(const sow_mask_args *args, uint32_t flip, uint32_t *words)
{
    const int64_t n_wanted = (int64_t)(args->density * (double)args->n + 0.5);
    int64_t n_below = 0;
    if (n_wanted == 0)
        return 0;
    const uint32_t border = find_border(args, flip, n_wanted - 1, &n_below);
    int64_t n_equal = n_wanted - n_below;
    for (int64_t i = 0; i < args->n; i++) {
        const uint32_t key = size_of(args->base[i]) ^ flip;
        if (key < border || (key == border && n_equal-- > 0))
            set(words, i);
    }
    return n_wanted;
}

static int64_t fill_smallest(const sow_mask_args *args, uint32_t *words)
{
    return fill_by_size(args, 0, words);
}

static int64_t fill_largest(const sow_mask_args *args, uint32_t *words)
{
    return fill_by_size(args, 0x7fffffff, words);
}

static const sow_mask masks[] = {
    {"random", "each weight by its own random number", fill_random},
    {"smallest", "the smallest weights of each tensor of the base", fill_smallest},
    {"largest", "the largest weights of each tensor of the base", fill_largest},
};

int64_t sow_mask_count(void)
{
    return sizeof masks / sizeof *masks;
}

const sow_mask *sow_mask_at(int64_t index)
{
    SOW_ASSERT(index >= 0 && index < sow_mask_count());
    return &masks[index];
}

const sow_mask *sow_mask_find(const char *name)
{
    for (int64_t i = 0; i < sow_mask_count(); i++)
        if (strcmp(masks[i].name, name) == 0)
            return &masks[i];
    return NULL;
}
