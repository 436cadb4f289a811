/* SPDX-License-Identifier: Apache-2.0 */
/* An ES run read back from what it left: the base and the ledger rebuild every iterate, and any member can be evaluated
 * again from scratch.
 *
 *     open -> step -> step -> ...          each step makes theta[g + 1] and compares its digest with the ledger's
 *                \-> members (of g + 1)    and these compare fitnesses, bit for bit
 *
 * Needs: everything below `train`.  Threads: the first thread.  Ranks: with a world the calls are collective, and the
 * ranks of a node share weights and work; without one this process is alone.
 *
 * Errors: SOW_EBITS where something is not what the run recorded, naming the generation. */
#ifndef SOWER_REPLAY_H
#define SOWER_REPLAY_H

#include "sower/kernels.h"
#include "sower/options.h"
#include "sower/shape.h"
#include "sower/world.h"

#include <stdbool.h>

typedef struct sow_replay sow_replay;

typedef struct sow_replay_args {
    sow_world *world;     /* borrowed; NULL: this process alone */
    const sow_conf *conf; /* root only: of the run's config.yaml, finished */
    const char *folder;   /* root only: of the run */
} sow_replay_args;

/* Collective.  Reads the ledger and checks its chain, reads the model, compares the header with the one that this
 * program would write, and holds the base as generation 0.  A ledger whose end is torn is SOW_EBITS. */
SOW_NODISCARD sow_code sow_replay_open(const sow_replay_args *args, sow_replay **out);
/* Not collective. */
void sow_replay_close(sow_replay **replay);

/* Not collective.  Whether the ledger rebuilds weights; else (grpo, sft) they are in checkpoints only. */
bool sow_replay_rebuilds(const sow_replay *replay);

/* Not collective.  Generations of the ledger, members of each, and the generation that theta is at now. */
int64_t sow_replay_n(const sow_replay *replay);
int64_t sow_replay_population(const sow_replay *replay);
int64_t sow_replay_generation(const sow_replay *replay);
uint32_t sow_replay_seed(const sow_replay *replay);

/* Collective.  theta[g] becomes theta[g + 1]. */
SOW_NODISCARD sow_code sow_replay_step(sow_replay *replay);

/* Not collective; without a world.  Begins at the newest checkpoint up to `generation` that has the ledger's digest. */
SOW_NODISCARD sow_code sow_replay_jump(sow_replay *replay, int64_t generation);

/* Collective.  Evaluates members of the next generation from theta[g], and compares with the ledger.  With more ranks
 * than members a member's rows are shared out too. */
SOW_NODISCARD sow_code sow_replay_members(sow_replay *replay, const int32_t *members, int64_t n);

/* Not collective; root.  Whether the file of a checkpoint, or the weights of a model's folder, are theta[g]. */
SOW_NODISCARD sow_code sow_replay_compare_file(sow_replay *replay, const char *path);
SOW_NODISCARD sow_code sow_replay_compare_model(sow_replay *replay, const char *path);

/* Not collective; root.  Writes theta[g] as a model's folder. */
SOW_NODISCARD sow_code sow_replay_save(sow_replay *replay, const char *folder, sow_type type);

#endif
