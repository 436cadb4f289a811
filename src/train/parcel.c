/* SPDX-License-Identifier: Apache-2.0 */
#include "parcel_impl.h"

#include "sower/alloc.h"

#include <string.h>

typedef struct part {
    int32_t round, id;
    int64_t total, offset;
    char data[SOW_MESSAGE_BYTES - 24];
} part;
_Static_assert(sizeof(part) <= SOW_MESSAGE_BYTES, "a part fits one message");

enum { MAX_ID = 1 << 24, HEAD_BYTES = offsetof(part, data) };
static const int64_t max_total = INT64_C(1) << 34;

sow_code sow_bytes_put(sow_bytes *bytes, const void *data, size_t n)
{
    return sow_words_add(bytes, data, n);
}

bool sow_reader_get(sow_reader *reader, void *out, size_t n)
{
    if ((size_t)(reader->end - reader->at) < n)
        return false;
    if (out != NULL)
        memcpy(out, reader->at, n);
    reader->at += n;
    return true;
}

sow_code sow_parcel_send(sow_world *world, int to, int tag, int32_t round, int32_t id, const char *data, size_t bytes)
{
    part p = {.round = round, .id = id, .total = (int64_t)bytes};
    size_t at = 0;
    do {
        size_t n = bytes - at < sizeof p.data ? bytes - at : sizeof p.data;
        p.offset = (int64_t)at;
        memcpy(p.data, data + at, n);
        SOW_TRY(sow_world_send(world, to, tag, &p, HEAD_BYTES + n));
        at += n;
    } while (at < bytes);
    return SOW_OK;
}

void sow_parcels_start(sow_parcels *parcels, int32_t round)
{
    parcels->round = round;
    for (int64_t i = 0; i < parcels->n; i++) {
        sow_words_clear(&parcels->items[i].data);
        parcels->items[i].is_whole = false;
        parcels->items[i].total = 0;
    }
}

void sow_parcels_fini(sow_parcels *parcels)
{
    for (int64_t i = 0; i < parcels->n; i++)
        sow_words_fini(&parcels->items[i].data);
    SOW_FREE(&parcels->items);
    *parcels = (sow_parcels){0};
}

static sow_code reach(sow_parcels *parcels, int32_t id)
{
    while (parcels->n <= id) {
        SOW_TRY(SOW_GROW(&parcels->items, &parcels->capacity, parcels->n));
        parcels->items[parcels->n++] = (sow_parcel){0};
    }
    return SOW_OK;
}

sow_code sow_parcels_take(sow_parcels *parcels, const sow_message *message)
{
    part p;
    if (message->bytes < HEAD_BYTES)
        return SOW_FAIL(SOW_ECOMM, "rank %d sent a part of %zu bytes, expected at least %d", message->from,
                        message->bytes, (int)HEAD_BYTES);
    memcpy(&p, message->data, message->bytes);
    size_t n = message->bytes - HEAD_BYTES;
    if (p.id < 0 || p.id >= MAX_ID || p.total < 0 || p.total > max_total || p.offset < 0 || (int64_t)n > p.total ||
        p.offset > p.total - (int64_t)n)
        return SOW_FAIL(SOW_ECOMM, "rank %d sent a part of unit %d with bytes %lld of %lld", message->from, p.id,
                        (long long)p.offset, (long long)p.total);
    if (p.round < parcels->round)
        return SOW_OK;
    if (p.round > parcels->round)
        sow_parcels_start(parcels, p.round);
    SOW_TRY(reach(parcels, p.id));
    sow_parcel *item = &parcels->items[p.id];
    if (item->is_whole)
        return SOW_OK;
    if (p.offset == 0) {
        sow_words_clear(&item->data);
        item->from = message->from;
        item->total = (size_t)p.total;
    }
    if (item->from != message->from || item->data.bytes != (size_t)p.offset)
        return SOW_OK; /* of a sender whose place was taken */
    SOW_TRY(sow_bytes_put(&item->data, p.data, n));
    item->is_whole = item->data.bytes == item->total;
    return SOW_OK;
}

sow_code sow_parcels_put(sow_parcels *parcels, int32_t round, int32_t id, const char *data, size_t bytes)
{
    if (round != parcels->round)
        sow_parcels_start(parcels, round);
    SOW_TRY(reach(parcels, id));
    sow_parcel *item = &parcels->items[id];
    if (item->is_whole)
        return SOW_OK;
    sow_words_clear(&item->data);
    SOW_TRY(sow_bytes_put(&item->data, data, bytes));
    item->total = bytes;
    item->is_whole = true;
    return SOW_OK;
}

const sow_parcel *sow_parcels_get(const sow_parcels *parcels, int32_t round, int32_t id)
{
    if (round != parcels->round || id < 0 || id >= parcels->n || !parcels->items[id].is_whole)
        return NULL;
    return &parcels->items[id];
}
