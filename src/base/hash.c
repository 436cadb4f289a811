/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/hash.h"

#include <stdio.h>

#include <xxhash.h>

sow_hash sow_hash_bytes(const void *data, size_t bytes)
{
    XXH128_hash_t h = XXH3_128bits(data, bytes);
    return (sow_hash){.high = h.high64, .low = h.low64};
}

void sow_hash_write(sow_hash hash, char out[SOW_HASH_HEX])
{
    (void)snprintf(out, SOW_HASH_HEX, "%016llx%016llx", (unsigned long long)hash.high, (unsigned long long)hash.low);
}

int sow_hash_equal(sow_hash a, sow_hash b)
{
    return a.high == b.high && a.low == b.low;
}

/* Bit by bit: keys are a few bytes long, and a table would be more to read. */
uint32_t sow_hash_crc32(const void *data, size_t bytes)
{
    const unsigned char *p = data;
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xedb88320 & (0U - (crc & 1)));
    }
    return ~crc;
}
