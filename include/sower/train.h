/* SPDX-License-Identifier: Apache-2.0 */
/* Fine-tuning over the ranks of a job by the methods of methods.def: Evolution Strategies (arXiv 2509.24372; arXiv
 * 2601.20861), GRPO (arXiv 2402.03300), supervised.
 *
 * Needs: everything below.  Threads: the first thread.
 *
 * Bits: ledger and weights depend on the settings that stand in the ledger's header and on nothing else. */
#ifndef SOWER_TRAIN_H
#define SOWER_TRAIN_H

#include "sower/options.h"
#include "sower/world.h"

#include <stdbool.h>

typedef struct sow_train_args {
    sow_world *world;     /* borrowed */
    const sow_conf *conf; /* root only, finished; NULL elsewhere */
    const char *folder;   /* root only: the run's folder */
    bool is_resume;       /* root only */
} sow_train_args;

/* Not collective.  Whether all names in a finished configuration are in their tables, those of methods that do not run
 * too; SOW_ECONF naming the first that is not. */
SOW_NODISCARD sow_code sow_train_check_names(const sow_conf *conf);

/* Collective.  Threads of this rank for sow_la_create: as asked, else 0 if OMP_NUM_THREADS says it, else
 * sow_world_cores. */
SOW_NODISCARD sow_code sow_train_threads(sow_world *world, int64_t asked, int64_t *out);

/* Collective.  Runs to the end, or to a good place to stop (SOW_ESTOP).  All ranks return the same kind of outcome;
 * root's error text says why. */
SOW_NODISCARD sow_code sow_train_run(const sow_train_args *args);

/* Checks a run of a method with gradients, whose ledger cannot rebuild the weights.  The run is not touched. */
typedef struct sow_train_check {
    int64_t first;    /* of the steps that are run again, and with it those since the checkpoint (or base) before it */
    int64_t last;     /* at most to the ledger's end; less than first: none */
    int64_t steps;    /* out, root: lines of the ledger */
    int64_t from;     /* out, root: the checkpoint they began at */
    int64_t n_redone; /* out, root */
    int64_t n_files;  /* out, root: checkpoints and final models whose digests were compared */
} sow_train_check;

/* Collective.  Chain and header of the ledger, every checkpoint's weights and moments and the final weights against its
 * digests, and steps run again: losses, digests of weights and moments, bit for bit.  SOW_EBITS naming the step that
 * differs, SOW_EARG if the ledger ends before `first`. */
SOW_NODISCARD sow_code sow_train_verify(const sow_train_args *args, sow_train_check *check);

#endif
