/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger: a header with the settings that determine the result and no others, then one line per generation with
 * everything that is needed to rebuild the weights from the base (ES), or to check them step by step (GRPO, sft).
 *
 *     {"ledger": 1, "numerics": 1, "method": "es", "base": DIGEST, ..., "settings": {...}}
 *     {"generation": 1, "fitness": ["0x1.2p-1", ...], "digest": DIGEST of theta[1], "chain": CHAIN}
 *     {"step": 1, "values": ["0x1.2p-1", ...], "digest": DIGEST, "moments": DIGEST of AdamW's moments, "chain": CHAIN}
 *
 * chain = XXH3-128 of (the chain before, as hex) + (the line up to its chain); the header's is that of its text.  It
 * shows damage, not malice: it is a checksum.  Two runs are compared by cmp.
 *
 * Needs: json, hash, file, options.  Threads: one ledger, one thread.  Ranks: root only.  Not collective. */
#ifndef SOWER_LEDGER_H
#define SOWER_LEDGER_H

#include "sower/file.h"
#include "sower/hash.h"
#include "sower/json.h"
#include "sower/options.h"

#include <stdbool.h>

/* Raised whenever a change of the program changes bits of a result. */
enum { SOW_NUMERICS = 1 };

/* What the header says beside the settings. */
typedef struct sow_ledger_facts {
    const char *dtype;     /* "fp16": storage of 2-D weights, decided once */
    const char *model;     /* digest of the base weights */
    const char *tokenizer; /* digest of tokenizer.json */
    const char *rows;      /* digest of the task's file, or "generated" */
    const char *backend;   /* "exact", or the library and core type */
    int64_t batch;         /* 0, or the batch under a backend that depends on it */
    int64_t max_new_tokens;
    const char *chat;   /* format, or "none" */
    int64_t row_tokens; /* as batch, of passes with gradients; 0: not written */
} sow_ledger_facts;

/* The header's text for a run; free with SOW_FREE. */
SOW_NODISCARD sow_code sow_ledger_header(const sow_options *options, const sow_ledger_facts *facts, char **out);

/* A ledger read from its file. */
typedef struct sow_ledger {
    char *path, *header;                  /* owned */
    bool has_moments;                     /* grpo, sft */
    int64_t population, n;                /* numbers of a line, lines */
    double *fitness;                      /* owned, [n][population] */
    sow_hash *digests, *moments, *chains; /* owned, [n]; moments zero for ES */
    sow_hash header_chain;
    int form;           /* the method's, of ledger.c */
    int64_t good_bytes; /* up to the end of the last whole line */
    bool has_torn_end;
} sow_ledger;

/* Reads and checks: JSON, consecutive generations, chain.  A torn last line (no newline, or cut JSON) is dropped and
 * told by has_torn_end; a torn or missing header gives n 0 and header NULL.  Everything else wrong is SOW_EFORMAT
 * "PATH:LINE: generation G: ...". */
SOW_NODISCARD sow_code sow_ledger_read(const char *path, sow_ledger **out);
void sow_ledger_destroy(sow_ledger **ledger);
/* The chain after line n - 1 (n 0: the header's). */
sow_hash sow_ledger_chain(const sow_ledger *ledger);

/* SOW_ECONF naming the first setting that differs between a run's header and the one it would have now; numerics too.
 * */
SOW_NODISCARD sow_code sow_ledger_compare(const char *path, const char *header, const char *header_now);

/* Writes: each line is on disk before the call returns. */
typedef struct sow_ledger_writer sow_ledger_writer;
/* A new file with this header. */
SOW_NODISCARD sow_code sow_ledger_create(const char *path, const char *header, sow_ledger_writer **out);
/* Goes on after what `ledger` holds. */
SOW_NODISCARD sow_code sow_ledger_continue(const sow_ledger *ledger, sow_ledger_writer **out);
SOW_NODISCARD sow_code sow_ledger_write(sow_ledger_writer *writer, int64_t generation, const double *fitness,
                                        int64_t population, sow_hash digest);
/* A line of a method with an optimizer. */
SOW_NODISCARD sow_code sow_ledger_write_step(sow_ledger_writer *writer, int64_t step, const double *values, int64_t n,
                                             sow_hash digest, sow_hash moments);
/* Numbers that a line of a method holds: the population, or reward, loss and the like. */
int64_t sow_ledger_n_values(const sow_options *options);
void sow_ledger_close(sow_ledger_writer **writer);

#endif
