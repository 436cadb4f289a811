/* SPDX-License-Identifier: Apache-2.0 */
/* Exact sums over nodes: arrays of 64-bit integers, added by whoever takes part; no order, no tree can matter.
 *
 * Needs: world.  Threads: the first thread.
 *
 * After sow_world_seal, so a member may die in the middle.  There is no communicator of the members to lose: members
 * exchange parts point to point (docs/decisions/0009), and whoever waits knows for whom.  When a member is lost, what
 * was under way to and from it is abandoned, never freed, and the caller begins anew with other members and a higher
 * epoch. */
#ifndef SOWER_EXACT_H
#define SOWER_EXACT_H

#include "sower/world.h"

typedef struct sow_exact sow_exact;

/* Collective, before sow_world_seal.  Room for the exchange is taken by the first sum: 2 MiB for two members,
 * 12 MiB for many. */
SOW_NODISCARD sow_code sow_exact_create(sow_world *world, sow_exact **out);
/* Not collective; before sow_world_stop. */
void sow_exact_destroy(sow_exact **exact);

/* Collective over `members` (world ranks, ascending, this rank among them; all pass the same list, epoch and n; an
 * epoch is used once and epochs rise).  data [n] of every member becomes the sum over members, and *overflows on all of
 * them whether an element's sum does not fit into 64 bits (intermediate sums cannot overflow); with one member data
 * stays.  n may be 0: then members wait for each other.
 *
 * A member that shows life is waited for as long as it takes.  SOW_ECOMM names the first member that is gone, or that
 * this rank has not heard of for a deadline while it waited; or it says which member gave up, and for whom.  Then data
 * is undefined and is the caller's again at once: MPI only ever sees this module's own buffers.  The other members get
 * SOW_ECOMM too, at the latest when they have waited for a deadline.  SOW_EARG: members do not agree on members or n.
 * A worker gets SOW_ECOMM also when root is gone (sow_world_pulse).  Shows life inside. */
SOW_NODISCARD sow_code sow_exact_sum(sow_exact *exact, const int *members, int n_members, int64_t epoch, int64_t *data,
                                     int64_t n, bool *overflows);

#endif
