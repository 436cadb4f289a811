/* SPDX-License-Identifier: Apache-2.0 */
/* Work that the ranks of a node share out without waiting for each other: blocks that are claimed, computed, stamped.
 *
 *     claim    (key, rank)   by compare-and-swap: one rank computes the block
 *     stamp    key           the block is whole
 *
 * A key is the number of a piece of work; keys rise.  What a block's computation writes must be a pure function of what
 * does not change meanwhile, so that a rank killed in the middle leaves nothing half-done: the leader sees that every
 * block is stamped, and computes those again whose owner is gone or silent.  A silent rank is ended first: it would
 * wake and write into memory that has moved on.  Not collective. */
#ifndef SOWER_SHARE_IMPL_H
#define SOWER_SHARE_IMPL_H

#include "sower/world.h"

#include <stdatomic.h>

/* The words of one block.  claim = key << 16 | (node index of the rank + 1). */
typedef struct share_words {
    _Atomic int64_t claim, stamp;
} share_words;

/* One rank's view; the words lie in memory that the node shares, zeroed at the start. */
typedef struct share {
    sow_world *world; /* borrowed; NULL: alone */
    int node, node_size, node_index;
    int64_t n_blocks;
    share_words *words;      /* [n_blocks] */
    _Atomic int64_t *failed; /* key of a piece of work in which a rank failed: nobody waits for its block */
} share;

/* Parts of shared memory begin on cache lines. */
static inline size_t share_round_up(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}
size_t share_bytes(int64_t n_blocks);
/* world NULL: this process alone.  memory: share_bytes() of them, NULL: later. */
void share_init(share *s, sow_world *world, int64_t n_blocks);
void share_place(share *s, char *memory);
/* Everything is at `key`: after loading. */
void share_reach(share *s, int64_t key);

typedef sow_code (*share_compute)(void *context, int64_t block);
/* Computes blocks that nobody has claimed until none is left. */
SOW_NODISCARD sow_code share_work(share *s, int64_t key, share_compute compute, void *context);
/* For the node's leader after its share_work: sees that every block is stamped.  what: "the update". */
SOW_NODISCARD sow_code share_complete(share *s, int64_t key, const char *what, share_compute compute, void *context);

/* World rank of a member of this node. */
int share_rank(const share *s, int node_index);

/* Where the ranks of a node are: numbers [node_size] in shared memory.  Waits until every other rank is nowhere or at
 * `least` or later; the leader ends a rank that stays behind for the deadline, saying why (others after two: the leader
 * may be lost too). */
enum { SHARE_NOWHERE = -1 };
SOW_NODISCARD sow_code share_await(share *s, _Atomic int64_t *where, int64_t least, bool is_leader, const char *why);

#endif
