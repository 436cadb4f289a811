/* SPDX-License-Identifier: Apache-2.0 */
/* The folder of a run: what it holds, its status, its lines of metrics and samples.
 *
 * Needs: file, json, options.  Threads: one folder, one thread.  Ranks: root only.
 * Not collective.
 *
 *     config.yaml run.json status.json lock ledger.jsonl checkpoints/ final/ and the files of sow_lines
 *
 * docs/METRICS.md says what they hold. */
#ifndef SOWER_FOLDER_H
#define SOWER_FOLDER_H

#include "sower/error.h"
#include "sower/json.h"
#include "sower/options.h"

typedef struct sow_folder sow_folder;

/* A new folder; SOW_ECONF if something is there already (never written over), as the first says without making one. */
SOW_NODISCARD sow_code sow_folder_check_new(const char *path);
SOW_NODISCARD sow_code sow_folder_create(const char *path, sow_folder **out);
/* A folder that a run left. */
SOW_NODISCARD sow_code sow_folder_open(const char *path, sow_folder **out);
void sow_folder_close(sow_folder **folder);
/* Before anything is written: SOW_ECONF if a run at work has it (sower/lock.h), else it is this one's until it is
 * closed. */
SOW_NODISCARD sow_code sow_folder_lock(sow_folder *folder);

/* PATH/name into out (SOW_TEXT bytes).  Names are ours and short. */
SOW_NODISCARD sow_code sow_folder_file(const sow_folder *folder, const char *name, char out[SOW_TEXT]);

/* How a run stands.  DIED is never written: status.json says running, and nobody runs it. */
typedef enum sow_state {
    SOW_STATE_RUNNING,
    SOW_STATE_DONE,
    SOW_STATE_RESUBMIT,
    SOW_STATE_FAILED,
    SOW_STATE_DIED
} sow_state;
const char *sow_state_name(sow_state state);

typedef struct sow_status {
    sow_state state;
    int64_t step, steps;
    int64_t num_tokens;    /* of training, up to `step`; -1: not known */
    char reason[SOW_TEXT]; /* "" if there is none */
    char verdict[16];      /* "VALID", "INVALID", "" while running */
    char verdict_reasons[SOW_TEXT];
} sow_status;
/* status.json, atomically. */
SOW_NODISCARD sow_code sow_folder_write_status(const sow_folder *folder, const sow_status *status);
SOW_NODISCARD sow_code sow_folder_read_status(const char *path, sow_status *out);

/* Files of JSON lines with a "step" each.  A step's line of metrics is written last. */
/* clang-format off */
#define SOW_FOLDER_LINES(LINES)                                                                   \
    LINES(METRICS, "metrics.jsonl") LINES(DRIFT, "drift.jsonl") LINES(SAMPLES, "samples.jsonl")   \
    LINES(ITEMS, "items.jsonl") LINES(KL, "kl.jsonl") LINES(SPECTRA, "spectra.jsonl")
/* clang-format on */
typedef enum sow_lines {
#define LINES(name, file) SOW_LINES_##name,
    SOW_FOLDER_LINES(LINES)
#undef LINES
        SOW_N_LINES
} sow_lines;

/* Makes them ready for appending: lines of metrics whose "step" is at most keep_step (-1: none) are kept, and of the
 * others those up to the last step with a line of metrics.  last_step (may be NULL) gets that step, -1 if none. */
SOW_NODISCARD sow_code sow_folder_open_lines(sow_folder *folder, int64_t keep_step, int64_t *last_step);
/* Appends; a file that is never written to is never made, but for metrics.jsonl. */
SOW_NODISCARD sow_code sow_folder_append(sow_folder *folder, sow_lines which, sow_line *line);
/* The first line of a file that is kept, to be destroyed; NULL if there is none. */
SOW_NODISCARD sow_code sow_folder_first(const sow_folder *folder, sow_lines which, sow_json **out);

/* The checkpoint of the highest step at most `max_step` in PATH/checkpoints: its path, and its step (-1: there is
 * none). */
SOW_NODISCARD sow_code sow_folder_find_checkpoint(const sow_folder *folder, int64_t max_step, char out[SOW_TEXT],
                                                  int64_t *step);
/* Where the checkpoint of a step belongs; where an optimizer's moments (0: first, 1: second, PyTorch's names) belong
 * beside it; and removal of all but the newest `keep` with theirs. */
SOW_NODISCARD sow_code sow_folder_checkpoint(const sow_folder *folder, int64_t step, char out[SOW_TEXT]);
enum { SOW_N_MOMENTS = 2 };
SOW_NODISCARD sow_code sow_folder_moment(const sow_folder *folder, int which, int64_t step, char out[SOW_TEXT]);
void sow_folder_prune_checkpoints(const sow_folder *folder, int64_t newest, int64_t keep);

/* Whether an evaluation (every: run.eval_every, or a probe's) is planned after `step`; and a line of drift, KL,
 * spectra. */
bool sow_eval_is_due(int64_t every, int64_t step, int64_t steps);
bool sow_drift_is_due(const sow_options *options, int64_t step);
bool sow_kl_is_due(const sow_options *options, int64_t step);
bool sow_spectra_are_due(const sow_options *options, int64_t step);

/* Judges a finished run: every planned evaluation is in metrics.jsonl, and no value in it is missing.  Writes verdict
 * and reasons. */
SOW_NODISCARD sow_code sow_folder_judge(const sow_folder *folder, const sow_options *options, sow_status *status);

#endif
