/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/replay.h"

#include "root_impl.h"

#include "sower/alloc.h"
#include "sower/log.h"

#include <string.h>

struct sow_replay {
    sow_run run;
    sow_model *model;    /* owned; root only */
    sow_ledger *ledger;  /* owned; root only */
    sow_folder *folder;  /* owned; root only */
    char path[SOW_TEXT]; /* of the ledger, for messages; root only */
    /* Of the ledger, on all ranks. */
    int64_t n, population;
    double *fitness;   /* owned, [n][population] */
    sow_hash *digests; /* owned, [n] */
    int64_t generation;
};

static bool is_root(const sow_replay *r)
{
    return r->run.world == NULL || sow_world_rank(r->run.world) == 0;
}

static sow_code agree(const sow_replay *r, sow_code mine)
{
    return r->run.world == NULL ? mine : sow_world_agree(r->run.world, mine);
}

/* Root: the ledger, and that it is whole. */
static sow_code read_ledger(sow_replay *r, const char *folder)
{
    SOW_TRY(sow_folder_open(folder, &r->folder));
    SOW_TRY(sow_folder_file(r->folder, "ledger.jsonl", r->path));
    if (!sow_file_exists(r->path))
        return SOW_FAIL(SOW_EIO, "%s: is not there, expected the folder of an ES run", r->path);
    SOW_TRY(sow_ledger_read(r->path, &r->ledger));
    if (r->ledger->header == NULL)
        return SOW_FAIL(SOW_EBITS, "%s:1: has no whole header", r->path);
    if (r->ledger->has_torn_end)
        return SOW_FAIL(SOW_EBITS, "%s:%lld: generation %lld: the line is torn, or was changed", r->path,
                        (long long)r->ledger->n + 2, (long long)r->ledger->n + 1);
    r->n = r->ledger->n;
    r->population = r->ledger->population;
    return SOW_OK;
}

/* Root: the run's options without what only looks at a run: probes and evaluations touch no bits. */
static sow_code read_run(sow_replay *r, const sow_replay_args *args)
{
    sow_options *o = r->run.options;
    *o = *sow_conf_options(args->conf);
    o->n_probes = 0;
    o->run.eval_rows = 0;
    o->run.fault[0] = '\0';
    SOW_TRY(read_ledger(r, args->folder));
    SOW_TRY(sow_run_read(&r->run, args->conf, &r->model));
    if (sow_ledger_n_values(o) != r->population)
        return SOW_FAIL(SOW_EBITS, "%s:1: population: %lld is not what the configuration says, expected %lld", r->path,
                        (long long)r->population, (long long)sow_ledger_n_values(o));
    return SOW_OK;
}

/* Collective.  Fitnesses and digests from root to all. */
static sow_code share_ledger(sow_replay *r)
{
    sow_world *world = r->run.world;
    if (world != NULL) {
        SOW_TRY(sow_world_bcast(world, &r->n, sizeof r->n));
        SOW_TRY(sow_world_bcast(world, &r->population, sizeof r->population));
    }
    sow_code rc = SOW_ALLOC(&r->fitness, r->n * r->population);
    if (rc == SOW_OK)
        rc = SOW_ALLOC(&r->digests, r->n);
    SOW_TRY(agree(r, rc));
    size_t fitness_bytes = (size_t)(r->n * r->population) * sizeof *r->fitness;
    size_t digest_bytes = (size_t)r->n * sizeof *r->digests;
    if (r->ledger != NULL && r->n > 0) {
        memcpy(r->fitness, r->ledger->fitness, fitness_bytes);
        memcpy(r->digests, r->ledger->digests, digest_bytes);
    }
    if (world == NULL || r->n == 0)
        return SOW_OK;
    SOW_TRY(sow_world_bcast(world, r->fitness, fitness_bytes));
    return sow_world_bcast(world, r->digests, digest_bytes);
}

/* Root: whether the header is the one of this model and this configuration. */
static sow_code compare_header(sow_replay *r)
{
    char *header = NULL;
    sow_hash base;
    SOW_TRY(sow_run_header(&r->run, &base, &header));
    sow_code rc = sow_ledger_compare(r->path, r->ledger->header, header);
    SOW_FREE(&header);
    return rc == SOW_ECONF ? SOW_FAIL(SOW_EBITS, "%s", sow_error_text()) : rc;
}

static sow_code open_replay(sow_replay *r, const sow_replay_args *args)
{
    sow_code rc = SOW_ALLOC(&r->run.options, 1);
    if (rc == SOW_OK && is_root(r))
        rc = read_run(r, args);
    SOW_TRY(agree(r, rc));
    SOW_TRY(share_ledger(r));
    SOW_TRY(sow_run_share(&r->run, r->model));
    SOW_TRY(sow_run_load(&r->run, r->model));
    SOW_TRY(agree(r, sow_run_prepare(&r->run)));
    return agree(r, is_root(r) ? compare_header(r) : SOW_OK);
}

sow_code sow_replay_open(const sow_replay_args *args, sow_replay **out)
{
    sow_replay *r = NULL;
    SOW_TRY(SOW_ALLOC(&r, 1));
    r->run.world = args->world;
    sow_code rc = open_replay(r, args);
    if (rc != SOW_OK)
        sow_replay_close(&r);
    else
        *out = r;
    return rc;
}

void sow_replay_close(sow_replay **replay)
{
    sow_replay *r = *replay;
    if (r == NULL)
        return;
    sow_run_fini(&r->run);
    SOW_FREE(&r->fitness);
    SOW_FREE(&r->digests);
    sow_folder_close(&r->folder);
    sow_ledger_destroy(&r->ledger);
    sow_model_close(&r->model);
    SOW_FREE(replay);
}

bool sow_replay_rebuilds(const sow_replay *r)
{
    return r->run.sgd == NULL;
}

int64_t sow_replay_n(const sow_replay *r)
{
    return r->n;
}

int64_t sow_replay_population(const sow_replay *r)
{
    return r->population;
}

int64_t sow_replay_generation(const sow_replay *r)
{
    return r->generation;
}

uint32_t sow_replay_seed(const sow_replay *r)
{
    return (uint32_t)r->run.options->run.seed;
}

/* Whether this node's theta[g] has the digest that the ledger says. */
static sow_code compare_digest(const sow_replay *r, int64_t generation)
{
    char is[SOW_HASH_HEX], was[SOW_HASH_HEX];
    sow_hash digest = sow_theta_digest(r->run.theta, generation);
    if (sow_hash_equal(digest, r->digests[generation - 1]))
        return SOW_OK;
    sow_hash_write(digest, is);
    sow_hash_write(r->digests[generation - 1], was);
    return SOW_FAIL(SOW_EBITS, "generation %lld: rebuilt weights have digest %s, the ledger says %s",
                    (long long)generation, is, was);
}

/* This rank's part of a step; the leader sees that its node's is whole. */
static sow_code update(sow_replay *r, int64_t generation)
{
    sow_run *run = &r->run;
    sow_step step;
    bool has_spread = false;
    memcpy(run->fitness, r->fitness + (generation - 1) * r->population, (size_t)r->population * sizeof(double));
    SOW_TRY(sow_run_step(run, generation, &step, &has_spread));
    SOW_TRY(sow_theta_update(run->theta, &run->plan, &step, sow_run_leads(run)));
    if (!sow_run_leads(run))
        return SOW_OK;
    SOW_TRY(sow_theta_complete(run->theta, &run->plan, &step));
    return compare_digest(r, generation);
}

sow_code sow_replay_step(sow_replay *r)
{
    SOW_ASSERT(r->generation < r->n);
    SOW_TRY(agree(r, update(r, r->generation + 1)));
    r->generation++;
    return SOW_OK;
}

sow_code sow_replay_jump(sow_replay *r, int64_t generation)
{
    SOW_ASSERT(r->run.world == NULL && generation <= r->n);
    return sow_run_load_checkpoint(&r->run, r->folder, r->ledger, generation, &r->generation);
}

/* Adds one part of a member's rows of a job to its sum. */
static sow_code evaluate_part(sow_replay *r, int32_t member, int job, int64_t first, int64_t last, sow_tally *sum)
{
    sow_unit unit = {.round = (int32_t)(2 * (r->generation + 1)),
                     .group = member,
                     .job = job,
                     .first = (int32_t)first,
                     .count = (int32_t)(last - first)};
    sow_result result = {0};
    bool is_stale = false;
    if (first == last)
        return SOW_OK;
    SOW_TRY(sow_run_unit(&r->run, &unit, &result, &is_stale));
    SOW_ASSERT(!is_stale); /* nobody steps before all have agreed */
    sow_tally_add(sum, &(sow_tally){.rows = unit.count, .reward = result.reward});
    return SOW_OK;
}

/* Evaluates this rank's share of the members into sums [n]: whole members where there are enough, else slices of their
 * rows. */
static sow_code evaluate_share(sow_replay *r, const int32_t *members, int64_t n, sow_tally *sums)
{
    sow_run *run = &r->run;
    int64_t rank = run->world == NULL ? 0 : sow_world_rank(run->world);
    int64_t size = run->world == NULL ? 1 : sow_world_size(run->world);
    SOW_TRY(sow_run_draw(run, r->generation + 1));
    int64_t slices = n >= size ? 1 : (size + n - 1) / n, n_rows = run->n_rows, n_retention = run->n_retention_rows;
    for (int64_t i = rank; i < n * slices; i += size) {
        int64_t member = i / slices, slice = i % slices;
        SOW_TRY(evaluate_part(r, members[member], run->train_job, n_rows * slice / slices,
                              n_rows * (slice + 1) / slices, &sums[member]));
        SOW_TRY(evaluate_part(r, members[member], run->retention_job, n_retention * slice / slices,
                              n_retention * (slice + 1) / slices, &sums[member]));
    }
    return SOW_OK;
}

static uint64_t bits_of(double x)
{
    uint64_t bits = 0;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Root: the sums of all ranks [size][n] against the ledger. */
static sow_code compare_members(const sow_replay *r, const int32_t *members, int64_t n, const sow_tally *all,
                                int64_t size)
{
    for (int64_t i = 0; i < n; i++) {
        sow_tally sum = {0};
        for (int64_t rank = 0; rank < size; rank++)
            sow_tally_add(&sum, &all[rank * n + i]);
        double is = sow_tally_mean_reward(&sum), was = r->fitness[r->generation * r->population + members[i]];
        if (bits_of(is) != bits_of(was))
            return SOW_FAIL(SOW_EBITS, "generation %lld: member %d evaluated again has fitness %a, the ledger says %a",
                            (long long)r->generation + 1, members[i], is, was);
    }
    return SOW_OK;
}

sow_code sow_replay_members(sow_replay *r, const int32_t *members, int64_t n)
{
    sow_world *world = r->run.world;
    int64_t size = world == NULL ? 1 : sow_world_size(world);
    sow_tally *mine = NULL, *all = NULL;
    if (n == 0)
        return SOW_OK;
    sow_code rc = SOW_ALLOC(&mine, n);
    if (rc == SOW_OK && is_root(r))
        rc = SOW_ALLOC(&all, n * size);
    if (rc == SOW_OK)
        rc = evaluate_share(r, members, n, mine);
    SOW_TRY_OR(rc, agree(r, rc));
    if (world != NULL)
        SOW_TRY_OR(rc, sow_world_gather(world, mine, (size_t)n * sizeof *mine, all));
    else
        memcpy(all, mine, (size_t)n * sizeof *mine);
    SOW_TRY_OR(rc, agree(r, is_root(r) ? compare_members(r, members, n, all, size) : SOW_OK));
done:
    SOW_FREE(&all);
    SOW_FREE(&mine);
    return rc;
}

static sow_code compare_weights(sow_replay *r, const float *weights, const char *path)
{
    size_t bytes = (size_t)r->run.layout->n_elements * sizeof *weights;
    if (memcmp(weights, sow_theta_buffer(r->run.theta, r->generation), bytes) == 0)
        return SOW_OK;
    return SOW_FAIL(SOW_EBITS, "generation %lld: %s does not hold the rebuilt weights", (long long)r->generation, path);
}

sow_code sow_replay_compare_file(sow_replay *r, const char *path)
{
    float *weights = NULL;
    SOW_TRY(SOW_ALLOC(&weights, r->run.layout->n_elements));
    sow_code rc = sow_model_load_theta(path, r->run.layout, weights);
    if (rc == SOW_OK)
        rc = compare_weights(r, weights, path);
    SOW_FREE(&weights);
    return rc;
}

sow_code sow_replay_compare_model(sow_replay *r, const char *path)
{
    sow_model *model = NULL;
    float *weights = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, sow_model_open(path, &model));
    if (sow_model_layout(model)->n_elements != r->run.layout->n_elements) {
        rc = SOW_FAIL(SOW_EBITS, "generation %lld: %s has another shape than the base", (long long)r->generation, path);
        goto done;
    }
    SOW_TRY_OR(rc, SOW_ALLOC(&weights, r->run.layout->n_elements));
    SOW_TRY_OR(rc, sow_model_load(model, weights));
    rc = compare_weights(r, weights, path);
done:
    SOW_FREE(&weights);
    sow_model_close(&model);
    return rc;
}

sow_code sow_replay_save(sow_replay *r, const char *folder, sow_type type)
{
    const sow_run *run = &r->run;
    return sow_model_save(folder, run->layout, sow_theta_buffer(run->theta, run->method->index(run, r->generation)),
                          type, run->blocks.tokenizer, run->blocks.tokenizer_bytes, run->chat_template);
}
