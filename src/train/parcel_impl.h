/* SPDX-License-Identifier: Apache-2.0 */
/* Parcels: blocks of bytes that go over the star in parts, each at most a message, named by round and unit.
 *
 * Parts of one sender come in order.  A unit may be answered twice (it was given again); then the first whole parcel
 * counts, and a new sender's first part takes the place of one that is not whole.  Not collective. */
#ifndef SOWER_PARCEL_IMPL_H
#define SOWER_PARCEL_IMPL_H

#include "sower/words.h"
#include "sower/world.h"

/* A growing block of bytes that is written and read in order. */
typedef sow_words sow_bytes;
SOW_NODISCARD sow_code sow_bytes_put(sow_bytes *bytes, const void *data, size_t n);
typedef struct sow_reader {
    const char *at, *end;
} sow_reader;
/* n bytes of the block; false: there are not so many. */
bool sow_reader_get(sow_reader *reader, void *out, size_t n);

SOW_NODISCARD sow_code sow_parcel_send(sow_world *world, int to, int tag, int32_t round, int32_t id, const char *data,
                                       size_t bytes);

typedef struct sow_parcel {
    sow_bytes data;
    size_t total;
    int from;
    bool is_whole;
} sow_parcel;

/* Those of one round. */
typedef struct sow_parcels {
    int32_t round;
    int64_t n, capacity;
    sow_parcel *items; /* owned, by unit */
} sow_parcels;

/* Forgets what is there; memory is kept. */
void sow_parcels_start(sow_parcels *parcels, int32_t round);
void sow_parcels_fini(sow_parcels *parcels);
/* Takes in a part; parts of earlier rounds are dropped, one of a later round starts it. */
SOW_NODISCARD sow_code sow_parcels_take(sow_parcels *parcels, const sow_message *message);
/* Puts a whole one in. */
SOW_NODISCARD sow_code sow_parcels_put(sow_parcels *parcels, int32_t round, int32_t id, const char *data, size_t bytes);
/* NULL: it is not whole. */
const sow_parcel *sow_parcels_get(const sow_parcels *parcels, int32_t round, int32_t id);

#endif
