/* SPDX-License-Identifier: Apache-2.0 */
/* The work queue of root: units go out to ranks in a star, results come back, and nobody's silence stops the rest.
 *
 * Needs: world.  Threads: the first thread.  Ranks: root only; it takes units itself as well.
 *
 * A unit is given to one rank.  If that rank is silent for the deadline its units are given to others; when it is heard
 * again it gets work again, and what it still sends must equal what the others sent.  A rank whose process is gone is
 * lost for good. Results are stored by unit, so neither order nor schedule can matter. */
#ifndef SOWER_QUEUE_H
#define SOWER_QUEUE_H

#include "sower/error.h"
#include "sower/world.h"

#include <stdbool.h>

/* What a rank is asked: rows first .. first+count-1 of a job, answered by a group's weights (a member, or -1 for the
 * center). */
typedef struct sow_unit {
    int32_t round, id, group, job, first, count;
} sow_unit;

/* What it answers: the same whoever computed it.  Rewards are rounded once to integers (scale 2^32) and added, so
 * slicing is free of consequence. */
typedef struct sow_result {
    int32_t round, id;
    int64_t reward; /* sum, scale 2^32 */
    uint32_t right; /* of a unit of up to 32 rows bit i: row first + i is correct; of a larger one how many are */
    int32_t new_tokens;
    int32_t parts[2]; /* sums of the task's parts, scale 2^12 */
    float squares;    /* sum of squared rewards, for intervals */
    float kl;         /* sum of what a member's rows were penalised for, before its weight */
} sow_result;
enum { SOW_UNIT_BITS = 32 };
/* Not collective.  Rows of the unit that are correct. */
int64_t sow_result_correct(const sow_unit *unit, const sow_result *result);
_Static_assert(sizeof(sow_unit) + sizeof(sow_result) <= 64, "a unit costs at most 64 bytes on the wire");

typedef struct sow_queue sow_queue;

/* Not collective.  tag_unit: of the messages that carry a sow_unit.  Root takes units too unless there are more than 64
 * ranks. */
SOW_NODISCARD sow_code sow_queue_create(sow_world *world, int tag_unit, bool is_dynamic, sow_queue **out);
void sow_queue_destroy(sow_queue **queue);

/* Not collective.  Starts a round: `round` and `id` of the units are set here (id: 0 .. n-1), rounds must rise.
 * Unfinished units of the round before are forgotten (its results stay comparable). */
SOW_NODISCARD sow_code sow_queue_start(sow_queue *queue, int32_t round, const sow_unit *units, int64_t n);

/* Not collective.  Hands out what can be handed out, and looks after silent ranks.  Never waits; call it often. */
SOW_NODISCARD sow_code sow_queue_serve(sow_queue *queue);

/* Not collective.  Takes a result; SOW_EBITS if it differs from an earlier one of the same unit (names unit and ranks).
 * */
SOW_NODISCARD sow_code sow_queue_accept(sow_queue *queue, int from, const sow_result *result);

/* Not collective.  A unit for root itself, false if there is none now. */
bool sow_queue_take(sow_queue *queue, sow_unit *out);

/* Not collective.  Whether all units are answered, and how many are. */
bool sow_queue_is_done(const sow_queue *queue);
int64_t sow_queue_n_done(const sow_queue *queue);
/* The results of this round by unit; complete when done.  Borrowed until the next start. */
const sow_result *sow_queue_results(const sow_queue *queue);

/* Not collective.  The ranks that answered, by unit.  Borrowed until the next start. */
const int *sow_queue_senders(const sow_queue *queue);

/* Not collective.  Called before a unit is sent to a rank, to send it first what the unit needs; NULL: nothing. */
typedef sow_code (*sow_queue_prelude)(void *context, int rank, const sow_unit *unit);
void sow_queue_set_prelude(sow_queue *queue, sow_queue_prelude prelude, void *context);

/* Not collective.  Whether a worker is alive and has been heard within the deadline. */
bool sow_queue_is_heard(const sow_queue *queue, int rank);

/* Not collective.  Units given again, and duplicates that came and were equal, since the start. */
int64_t sow_queue_n_reissued(const sow_queue *queue);
int64_t sow_queue_n_duplicates(const sow_queue *queue);

#endif
