/* SPDX-License-Identifier: Apache-2.0 */
/* Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"), and how a number's
 * place in a run becomes its key and counter.
 *
 * Needs: libc.  Threads: pure functions.  Bits: integers only, the same everywhere.
 *
 *     key      seed (32 bits), generation (32)          Every field has its own bits, so that two places never share a
 *     counter  index (64), stream and member (4 + 28),  number: not two tensors, members, generations, streams, and not
 *              tensor (32)                              two runs with seeds s and s + 1. */
#ifndef SOWER_PHILOX_H
#define SOWER_PHILOX_H

#include <stddef.h>
#include <stdint.h>

/* Four counter words become four random words.  They live in 64-bit variables of which the low halves count: a
 * product's low half is then simply the product, and a vector of such lanes needs no shuffle (6 instructions a round).
 * */
static inline __attribute__((always_inline)) void sow_philox4x32(const uint32_t key[2], uint64_t word[4])
{
    const uint64_t low = 0xffffffff;
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
        uint64_t p0 = (word[0] & low) * 0xD2511F53, p1 = (word[2] & low) * 0xCD9E8D57;
        word[0] = (p1 >> 32) ^ word[1] ^ k0;
        word[2] = (p0 >> 32) ^ word[3] ^ k1;
        word[1] = p1;
        word[3] = p0;
    }
}

/* What a stream of numbers is for. */
typedef enum sow_stream {
    SOW_STREAM_NOISE,  /* perturbations: generation, member, tensor */
    SOW_STREAM_SAMPLE, /* sampled tokens: step, prompt and sample, position */
    SOW_STREAM_DATA,   /* which rows a generation draws */
    SOW_STREAM_INIT,   /* weights of a new model: tensor */
    SOW_STREAM_ROW,    /* a generated task's rows: row number */
    SOW_STREAM_TEST,
    SOW_STREAM_SHAPING, /* weights of members that do not come from fitness: generation */
    SOW_STREAM_MASK,    /* which weights move: tensor */
} sow_stream;

/* A place: `key` and the upper half of the counter; the lower half is the index. */
typedef struct sow_place {
    uint32_t key[2];
    uint32_t stream[2];
} sow_place;

/* member < 2^28; the others 32 bits. */
sow_place sow_place_of(sow_stream stream, uint32_t seed, uint32_t generation, uint32_t member, uint32_t tensor);

/* A small generator that walks a place's numbers in order; for prompts, rows and the like, not for tensors. */
typedef struct sow_random {
    sow_place place;
    uint64_t index;
    uint32_t words[4];
    int left;
} sow_random;

/* Starts at the first number of a place. */
void sow_random_init(sow_random *random, sow_place place);

/* 32 random bits. */
uint32_t sow_random_next(sow_random *random);

/* Uniform in 0 .. n - 1, exactly (rejection), n >= 1. */
uint32_t sow_random_below(sow_random *random, uint32_t n);

/* Shuffles n items of item_bytes (<= 64) each (Fisher and Yates). */
void sow_random_shuffle(sow_random *random, void *items, int64_t n, size_t item_bytes);

#endif
