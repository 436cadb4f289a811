/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums: XXH3-128 for digests and chains (it shows damage, not malice), CRC-32 for the held-out rule.
 *
 * Needs: xxhash.  Threads: pure functions.  Bits: depend on the bytes only. */
#ifndef SOWER_HASH_H
#define SOWER_HASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct sow_hash {
    uint64_t high, low;
} sow_hash;

enum { SOW_HASH_HEX = 33 }; /* 32 digits and the NUL */

/* XXH3-128 of the bytes, seed 0. */
sow_hash sow_hash_bytes(const void *data, size_t bytes);

/* 32 lower-case hexadecimal digits. */
void sow_hash_write(sow_hash hash, char out[SOW_HASH_HEX]);

/* Whether two are the same. */
int sow_hash_equal(sow_hash a, sow_hash b);

/* CRC-32 (IEEE 802.3, reflected, as in zlib's crc32) of the bytes. */
uint32_t sow_hash_crc32(const void *data, size_t bytes);

#endif
