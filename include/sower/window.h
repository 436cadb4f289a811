/* SPDX-License-Identifier: Apache-2.0 */
/* Memory shared by the ranks of a node.
 *
 * Needs: mpi.h (in src/par only), world.  Threads: the memory is what it is: atomics or one writer.
 *
 * A window stays readable after any rank that mapped it was killed.  Space in /dev/shm is checked before a window is made, so
 * that a full one is an error and never a SIGBUS. */
#ifndef SOWER_WINDOW_H
#define SOWER_WINDOW_H

#include "sower/world.h"

typedef struct sow_window sow_window;

/* Collective.  `bytes` zeroed bytes shared by the ranks of this rank's node, 64-byte aligned.  All ranks pass the same size.
 * Before sow_world_seal. */
SOW_NODISCARD sow_code sow_window_create(sow_world *world, size_t bytes, const char *what, sow_window **out);
void *sow_window_data(const sow_window *window);
size_t sow_window_bytes(const sow_window *window);
/* Not collective; after a rank was lost too. */
void sow_window_destroy(sow_window **window);

#endif
