/* SPDX-License-Identifier: Apache-2.0 */
/* See theta.h for the drawing.  All words that ranks share are sequentially consistent atomics: they are touched once
 * per block of 2^20 weights, so their cost is nothing, and the argument for them stays short:
 *
 * A reader writes reading[me] = g and then looks at `target`; an updater raises `target` and then looks at reading[].
 * Whichever comes second sees the other, so nobody reads theta[g] while theta[g + 2] is written over it (Dekker 1965).
 * */
#include "sower/theta.h"

#include "share_impl.h"
#include "train_impl.h"

#include "sower/alloc.h"
#include "sower/phase.h"
#include "sower/replica.h"
#include "sower/window.h"

#include <stdatomic.h>
#include <string.h>

typedef struct record {
    sow_hash hash; /* of the granule's bytes */
    double delta2; /* sum of (theta - base)^2, in element order */
} record;

typedef struct control {
    _Atomic int64_t target; /* newest generation that is written or whole */
} control;

struct sow_theta {
    sow_world *world;         /* borrowed, NULL: alone */
    sow_la *la;               /* borrowed */
    const sow_layout *layout; /* borrowed */
    int64_t block, n_granules;
    share share;        /* of the update's blocks; keys are generations */
    sow_window *window; /* owned, NULL: `alone` holds the memory */
    void *alone;        /* owned */
    float *buffers[2], *base;
    control *control;
    _Atomic int64_t *reading; /* [node_size] generation a rank reads, SHARE_NOWHERE */
    record *records[2];       /* [n_granules] of the buffer beside it */
};

static int64_t count_blocks(const sow_layout *layout, int64_t block)
{
    return (layout->n_elements + block - 1) / block;
}

/* Cuts the memory at `base` (NULL: only measures) for n_ranks ranks; returns its bytes. */
static size_t place_parts(sow_theta *t, char *memory, int n_ranks)
{
    size_t at = 0, floats = share_round_up((size_t)t->layout->n_elements * sizeof(float));
    size_t records = share_round_up((size_t)t->n_granules * sizeof(record));
    t->buffers[0] = (float *)(void *)(memory + at), at += floats;
    t->buffers[1] = (float *)(void *)(memory + at), at += floats;
    t->base = (float *)(void *)(memory + at), at += floats;
    t->records[0] = (record *)(void *)(memory + at), at += records;
    t->records[1] = (record *)(void *)(memory + at), at += records;
    t->control = (control *)(void *)(memory + at), at += share_round_up(sizeof(control));
    t->reading = (_Atomic int64_t *)(void *)(memory + at), at += share_round_up((size_t)n_ranks * sizeof(int64_t));
    share_place(&t->share, memory + at), at += share_bytes(t->share.n_blocks);
    return at;
}

size_t sow_theta_bytes(const sow_layout *layout, int64_t update_block)
{
    static char nowhere[1];
    sow_theta measured = {.layout = layout, .n_granules = layout->n_elements / SOW_GRANULE};
    share_init(&measured.share, NULL, count_blocks(layout, update_block));
    return place_parts(&measured, nowhere, 1);
}

sow_code sow_theta_create(sow_world *world, sow_la *la, const sow_layout *layout, int64_t update_block, sow_theta **out)
{
    sow_theta *t = NULL;
    sow_code rc = SOW_OK;
    static char nowhere[1];
    SOW_TRY(SOW_ALLOC(&t, 1));
    *t = (sow_theta){.world = world, .la = la, .layout = layout, .block = update_block};
    t->n_granules = layout->n_elements / SOW_GRANULE;
    share_init(&t->share, world, count_blocks(layout, update_block));
    size_t bytes = place_parts(t, nowhere, t->share.node_size);
    char *memory = NULL;
    if (world != NULL) {
        SOW_TRY_OR(rc, sow_window_create(world, bytes, "the weights", &t->window));
        memory = sow_window_data(t->window);
    } else {
        SOW_TRY_OR(rc, SOW_ALLOC((char **)&t->alone, bytes));
        memory = t->alone;
    }
    (void)place_parts(t, memory, t->share.node_size);
    atomic_store(&t->reading[t->share.node_index], SHARE_NOWHERE);
done:
    if (rc != SOW_OK)
        sow_theta_destroy(&t);
    else
        *out = t;
    return rc;
}

void sow_theta_destroy(sow_theta **theta)
{
    sow_theta *t = *theta;
    if (t == NULL)
        return;
    sow_window_destroy(&t->window);
    SOW_FREE(&t->alone);
    SOW_FREE(theta);
}

float *sow_theta_base(sow_theta *t)
{
    return t->base;
}

float *sow_theta_buffer(sow_theta *t, int64_t generation)
{
    return t->buffers[generation % 2];
}

int64_t sow_theta_n_granules(const sow_theta *t)
{
    return t->n_granules;
}

static record measure(const float *theta, const float *base)
{
    record r = {.hash = sow_hash_bytes(theta, SOW_GRANULE * sizeof *theta)};
    for (int64_t i = 0; i < SOW_GRANULE; i++) {
        double delta = (double)theta[i] - (double)base[i];
        r.delta2 += delta * delta;
    }
    return r;
}

void sow_theta_loaded(sow_theta *t, int64_t generation)
{
    const float *theta = sow_theta_buffer(t, generation);
    record *records = t->records[generation % 2];
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < t->n_granules; i++)
        records[i] = measure(theta + i * SOW_GRANULE, t->base + i * SOW_GRANULE);
    share_reach(&t->share, generation);
    atomic_store(&t->control->target, generation);
}

bool sow_theta_begin_read(sow_theta *t, int64_t generation)
{
    atomic_store(&t->reading[t->share.node_index], generation);
    int64_t target = atomic_load(&t->control->target);
    if (target < generation + 2 && target >= generation)
        return true;
    sow_theta_end_read(t);
    return false;
}

bool sow_theta_is_newest(const sow_theta *t, int64_t generation)
{
    return atomic_load(&t->control->target) == generation;
}

void sow_theta_end_read(sow_theta *t)
{
    atomic_store(&t->reading[t->share.node_index], SHARE_NOWHERE);
}

void sow_theta_member_noise(const sow_layout *layout, const sow_noise_plan *plan, int64_t generation, int64_t member,
                            sow_tensor_noise *out)
{
    sow_member_noise whose = sow_noise_of_member(member < 0 ? 0 : member, plan->is_mirrored);
    float factor = whose.sign * (float)plan->sigma;
    for (int64_t i = 0; i < layout->n_tensors; i++) {
        bool is_moved = member >= 0 && plan->is_selected[i];
        out[i] =
            (sow_tensor_noise){.place = plan->noise->place(plan->seed, (uint32_t)generation, whose.member, (uint32_t)i),
                               .loop = plan->noise->loop,
                               .factor = is_moved ? factor : 0.0f,
                               .mask = plan->mask == NULL ? NULL : plan->mask + layout->tensors[i].offset / 32};
    }
}

/* Index of the last tensor that starts at or before `element`. */
static int64_t tensor_at(const sow_layout *layout, int64_t element)
{
    int64_t low = 0, high = layout->n_tensors - 1;
    while (low < high) {
        int64_t middle = (low + high + 1) / 2;
        if (layout->tensors[middle].offset <= element)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* Adds all members' noise of the part of tensor `k` that lies in [first, first + n) to acc, members ascending. */
static void add_tensor(const sow_theta *t, const sow_noise_plan *plan, const sow_step *step, int64_t k, int64_t first,
                       int64_t n, float *acc)
{
    const sow_kernels *kernels = sow_la_kernels(t->la);
    for (int64_t i = 0; i < step->population; i++) {
        sow_member_noise whose = sow_noise_of_member(i, plan->is_mirrored);
        sow_accumulate_args args = {
            .loop = plan->noise->loop,
            .place = plan->noise->place(plan->seed, (uint32_t)step->generation, whose.member, (uint32_t)k),
            .first = (uint64_t)(first - t->layout->tensors[k].offset),
            .n = n,
            .c = whose.sign * step->coefficients[i],
            .acc = acc};
        kernels->accumulate(&args);
    }
}

/* theta'[granule] into out: sum over members, theta added, anchor. */
static void compute_granule(const sow_theta *t, const sow_noise_plan *plan, const sow_step *step, int64_t granule,
                            bool is_check, float *out)
{
    const sow_layout *layout = t->layout;
    const float *theta = t->buffers[(step->generation - 1) % 2];
    int64_t begin = granule * SOW_GRANULE, end = begin + SOW_GRANULE;
    if (step->make != NULL) {
        step->make(step->context, granule, theta + begin, t->base + begin, out, is_check);
        return;
    }
    if (step->coefficients == NULL) {
        memcpy(out, theta + begin, SOW_GRANULE * sizeof *out);
        return;
    }
    _Alignas(64) float acc[SOW_GRANULE];
    memset(acc, 0, sizeof acc);
    for (int64_t k = tensor_at(layout, begin); k < layout->n_tensors && layout->tensors[k].offset < end; k++) {
        const sow_tensor *tensor = &layout->tensors[k];
        int64_t first = tensor->offset > begin ? tensor->offset : begin;
        int64_t last = tensor->offset + tensor->rows * tensor->cols;
        last = last < end ? last : end;
        if (first < last && plan->is_selected[k])
            add_tensor(t, plan, step, k, first, last - first, acc + (first - begin));
    }
    sow_la_kernels(t->la)->apply(&(sow_apply_args){.n = SOW_GRANULE,
                                                   .anchor = step->anchor,
                                                   .decay = step->decay,
                                                   .theta = theta + begin,
                                                   .base = t->base + begin,
                                                   .acc = acc,
                                                   .out = out});
    if (plan->mask != NULL)
        sow_la_kernels(t->la)->hold(plan->mask, begin, SOW_GRANULE, theta + begin, out);
}

/* A piece of an update, as share_work asks for it. */
typedef struct update {
    sow_theta *t;
    const sow_noise_plan *plan;
    const sow_step *step;
} update;

static sow_code compute_block(void *context, int64_t block)
{
    const update *u = context;
    sow_theta *t = u->t;
    const sow_noise_plan *plan = u->plan;
    const sow_step *step = u->step;
    int64_t first = block * t->block / SOW_GRANULE, last = (block + 1) * t->block / SOW_GRANULE;
    last = last < t->n_granules ? last : t->n_granules;
    float *out = sow_theta_buffer(t, step->generation);
    record *records = t->records[step->generation % 2];
    int64_t bad = -1;
#pragma omp parallel for schedule(dynamic) num_threads(sow_la_threads(t->la)) reduction(max : bad)
    for (int64_t i = first; i < last; i++) {
        float *granule = out + i * SOW_GRANULE;
        compute_granule(t, plan, step, i, false, granule);
        records[i] = measure(granule, t->base + i * SOW_GRANULE);
        if (sow_la_kernels(t->la)->has_non_finite(SOW_GRANULE, granule) != 0)
            bad = i;
    }
    if (bad < 0)
        return SOW_OK;
    const sow_tensor *tensor = &t->layout->tensors[tensor_at(t->layout, bad * SOW_GRANULE)];
    return SOW_FAIL(
        SOW_ENUM,
        "generation %lld: the update makes %s (or a tensor after it) infinite or not a number: alpha is too large",
        (long long)step->generation, tensor->name);
}

static void raise_target(sow_theta *t, int64_t generation)
{
    int64_t seen = atomic_load(&t->control->target);
    while (seen < generation && !atomic_compare_exchange_weak(&t->control->target, &seen, generation))
        ;
}

sow_code sow_theta_update(sow_theta *t, const sow_noise_plan *plan, const sow_step *step, bool is_leader)
{
    sow_phase_enter(SOW_PHASE_UPDATE);
    raise_target(t, step->generation);
    /* Until nobody reads what lies in the buffer of this generation. */
    SOW_TRY(share_await(&t->share, t->reading, step->generation - 1, is_leader,
                        "it still reads weights of an earlier generation"));
    return share_work(&t->share, step->generation, compute_block, &(update){t, plan, step});
}

sow_code sow_theta_complete(sow_theta *t, const sow_noise_plan *plan, const sow_step *step)
{
    return share_complete(&t->share, step->generation, "the update", compute_block, &(update){t, plan, step});
}

sow_hash sow_theta_digest(const sow_theta *t, int64_t generation)
{
    const record *records = t->records[generation % 2];
    sow_hash chain = {0};
    for (int64_t i = 0; i < t->n_granules; i++) {
        sow_hash pair[2] = {chain, records[i].hash};
        chain = sow_hash_bytes(pair, sizeof pair);
    }
    return chain;
}

double sow_theta_delta2(const sow_theta *t, int64_t generation)
{
    double sum = 0;
    for (int64_t i = 0; i < t->n_granules; i++)
        sum += t->records[generation % 2][i].delta2;
    return sum;
}

sow_code sow_theta_check_granule(sow_theta *t, const sow_noise_plan *plan, const sow_step *step, int64_t granule)
{
    float *again = NULL;
    SOW_TRY(SOW_ALLOC(&again, SOW_GRANULE));
    compute_granule(t, plan, step, granule, true, again);
    bool is_same =
        memcmp(again, sow_theta_buffer(t, step->generation) + granule * SOW_GRANULE, SOW_GRANULE * sizeof *again) == 0;
    SOW_FREE(&again);
    if (is_same)
        return SOW_OK;
    return SOW_FAIL(
        SOW_EBITS, "generation %lld: weights %lld to %lld differ when computed again: memory or processor is faulty",
        (long long)step->generation, (long long)(granule * SOW_GRANULE), (long long)((granule + 1) * SOW_GRANULE - 1));
}

sow_code sow_theta_scrub(sow_theta *t, int64_t generation, int part, int n_parts)
{
    int64_t first = t->n_granules * part / n_parts, last = t->n_granules * (part + 1) / n_parts, bad = -1;
    const float *theta = sow_theta_buffer(t, generation);
    const record *records = t->records[generation % 2];
#pragma omp parallel for schedule(static) num_threads(sow_la_threads(t->la)) reduction(max : bad)
    for (int64_t i = first; i < last; i++)
        if (!sow_hash_equal(sow_hash_bytes(theta + i * SOW_GRANULE, SOW_GRANULE * sizeof *theta), records[i].hash))
            bad = i;
    if (bad < 0)
        return SOW_OK;
    return SOW_FAIL(SOW_EBITS, "generation %lld: weights %lld to %lld changed in memory", (long long)generation,
                    (long long)(bad * SOW_GRANULE), (long long)((bad + 1) * SOW_GRANULE - 1));
}
