/* SPDX-License-Identifier: Apache-2.0 */
#include "share_impl.h"

#include "sower/clock.h"
#include "sower/log.h"
#include "sower/phase.h"

size_t share_bytes(int64_t n_blocks)
{
    return 64 + share_round_up((size_t)n_blocks * sizeof(share_words));
}

void share_init(share *s, sow_world *world, int64_t n_blocks)
{
    *s = (share){.world = world, .node_size = 1, .n_blocks = n_blocks};
    if (world == NULL)
        return;
    s->node = sow_world_node_of(world, sow_world_rank(world));
    s->node_size = sow_world_node_size(world, s->node);
    while (sow_world_node_member(world, s->node, s->node_index) != sow_world_rank(world))
        s->node_index++;
}

void share_place(share *s, char *memory)
{
    s->failed = (_Atomic int64_t *)(void *)memory;
    s->words = (share_words *)(void *)(memory + 64);
}

void share_reach(share *s, int64_t key)
{
    for (int64_t i = 0; i < s->n_blocks; i++) {
        atomic_store(&s->words[i].claim, key << 16);
        atomic_store(&s->words[i].stamp, key);
    }
}

int share_rank(const share *s, int node_index)
{
    return s->world == NULL ? 0 : sow_world_node_member(s->world, s->node, node_index);
}

/* Ends a rank, and waits until it is seen gone. */
static sow_code end_rank(share *s, int node_index, const char *why)
{
    int rank = share_rank(s, node_index);
    if (sow_world_is_gone(s->world, rank))
        return SOW_OK;
    sow_log(SOW_LOG_WARN, "rank %d on %s is ended: %s (phase %s)", rank, sow_world_host(s->world, rank), why,
            sow_phase_name(sow_world_phase_of(s->world, rank)));
    return sow_world_kill(s->world, rank);
}

/* Shows life, and sleeps a moment. */
static sow_code wait_a_moment(share *s)
{
    sow_phase_tick();
    if (s->world != NULL)
        SOW_TRY(sow_world_pulse(s->world));
    sow_clock_sleep_s(2e-4);
    return SOW_OK;
}

sow_code share_await(share *s, _Atomic int64_t *where, int64_t least, bool is_leader, const char *why)
{
    double start = sow_clock_now_s(), patience = is_leader ? 1 : 2;
    for (int i = 0; i < s->node_size; i++) {
        for (;;) {
            int64_t is_at = atomic_load(&where[i]);
            if (i == s->node_index || is_at == SHARE_NOWHERE || is_at >= least)
                break;
            bool is_late = sow_clock_now_s() - start > patience * sow_world_deadline_s(s->world);
            if (is_late || sow_world_is_gone(s->world, share_rank(s, i))) {
                SOW_TRY(end_rank(s, i, why));
                atomic_store(&where[i], SHARE_NOWHERE);
            }
            SOW_TRY(wait_a_moment(s));
        }
    }
    return SOW_OK;
}

/* Claims the block for this rank if it is unclaimed for this key. */
static bool claim(share *s, int64_t block, int64_t key)
{
    int64_t mine = key << 16 | (s->node_index + 1), seen = atomic_load(&s->words[block].claim);
    while (seen >> 16 < key)
        if (atomic_compare_exchange_weak(&s->words[block].claim, &seen, mine))
            return true;
    return false;
}

static sow_code compute_block(share *s, int64_t key, int64_t block, share_compute compute, void *context)
{
    sow_code rc = compute(context, block);
    atomic_store(rc == SOW_OK ? &s->words[block].stamp : s->failed, key);
    return rc;
}

sow_code share_work(share *s, int64_t key, share_compute compute, void *context)
{
    sow_phase phase = sow_phase_now();
    /* Ranks start at different places, so that they rarely meet at one block. */
    int64_t start = s->n_blocks * s->node_index / s->node_size;
    for (int64_t i = 0; i < s->n_blocks; i++) {
        int64_t block = (start + i) % s->n_blocks;
        if (!claim(s, block, key))
            continue;
        sow_phase_enter(phase); /* counts as an entry, so that a test can stop a rank between claim and stamp */
        SOW_TRY(compute_block(s, key, block, compute, context));
        sow_phase_tick();
    }
    return SOW_OK;
}

/* A block that its owner has not finished: taken over if the owner is gone, or silent for the deadline. */
static sow_code rescue(share *s, int64_t key, int64_t block, double waited_s, share_compute compute, void *context)
{
    int owner = (int)(atomic_load(&s->words[block].claim) & 0xffff) - 1;
    bool is_gone = owner != s->node_index && sow_world_is_gone(s->world, share_rank(s, owner));
    if (owner != s->node_index && !is_gone && waited_s < sow_world_deadline_s(s->world))
        return wait_a_moment(s);
    if (owner != s->node_index)
        SOW_TRY(end_rank(s, owner, "it does not finish its part of the work"));
    atomic_store(&s->words[block].claim, key << 16 | (s->node_index + 1));
    return compute_block(s, key, block, compute, context);
}

sow_code share_complete(share *s, int64_t key, const char *what, share_compute compute, void *context)
{
    double start = sow_clock_now_s();
    for (int64_t i = 0; i < s->n_blocks; i++) {
        while (atomic_load(&s->words[i].stamp) < key) {
            if (atomic_load(s->failed) == key)
                return SOW_FAIL(SOW_EPEER, "another rank of this node could not finish %s", what);
            SOW_TRY(rescue(s, key, i, sow_clock_now_s() - start, compute, context));
        }
        if (i % 64 == 0)
            start = sow_clock_now_s();
    }
    return SOW_OK;
}
