/* SPDX-License-Identifier: Apache-2.0 */
/* How the job is cut into nodes.
 *
 * A host is what shares memory; a node is a host, or every so many neighbours within one.  All ranks know all hosts,
 * so each computes the same cut.  Nodes are numbered by their first rank:
 *
 *   rank     0 1 2 3 | 4 5 6      two hosts, two ranks per node
 *   node     0 0 1 1 | 2 2 3 */
#include "par_impl.h"

#include "sower/alloc.h"

#include <inttypes.h>
#include <math.h>

static bool is_same_node(const sow_world *w, int a, int b, int64_t per_node)
{
    const sow_peer *p = &w->peers[a], *q = &w->peers[b];
    if (p->host_first != q->host_first)
        return false;
    return per_node == 0 || p->host_index / per_node == q->host_index / per_node;
}

/* Fills node_of, node_offsets, node_members. */
static void number_nodes(sow_world *w, int64_t per_node)
{
    int n = 0;
    for (int r = 0; r < w->size; r++) {
        int node = 0;
        while (node < n && !is_same_node(w, r, w->node_members[node], per_node)) /* holds first members for now */
            node++;
        if (node == n)
            w->node_members[n++] = r;
        w->node_of[r] = node;
    }
    int at = 0;
    for (int node = 0; node < n; node++) {
        w->node_offsets[node] = at;
        for (int r = 0; r < w->size; r++)
            at += w->node_of[r] == node;
    }
    w->node_offsets[n] = at;
    w->n_nodes = n;
    for (int node = 0; node < n; node++)
        for (int r = 0, i = w->node_offsets[node]; r < w->size; r++)
            if (w->node_of[r] == node)
                w->node_members[i++] = r;
}

static sow_code make_comms(sow_world *w)
{
    int node = w->node_of[w->rank];
    bool is_leader = sow_world_node_member(w, node, 0) == w->rank;
    if (w->node != MPI_COMM_NULL)
        SOW_TRY_MPI(MPI_Comm_free(&w->node));
    if (w->leaders != MPI_COMM_NULL)
        SOW_TRY_MPI(MPI_Comm_free(&w->leaders));
    SOW_TRY(sow_world_barrier(w)); /* what follows can only block: be here together */
    SOW_TRY_BLOCKING(w, "MPI_Comm_split", MPI_Comm_split(w->comm, node, w->rank, &w->node));
    SOW_TRY_BLOCKING(w, "MPI_Comm_split", MPI_Comm_split(w->comm, is_leader ? 0 : MPI_UNDEFINED, w->rank, &w->leaders));
    return SOW_OK;
}

sow_code sow_world_cut(sow_world *w, double deadline_s, int64_t per_node)
{
    sow_code rc = SOW_OK;
    if (!(deadline_s > 0) || isinf(deadline_s))
        rc = SOW_FAIL(SOW_EARG, "deadline: %g s, expected a positive number", deadline_s);
    else if (per_node < 0)
        rc = SOW_FAIL(SOW_EARG, "ranks per node: %" PRId64 ", expected 0 (as the hosts are) or more", per_node);
    if (rc == SOW_OK && w->node_of == NULL)
        rc = SOW_ALLOC(&w->node_of, w->size);
    if (rc == SOW_OK && w->node_offsets == NULL)
        rc = SOW_ALLOC(&w->node_offsets, w->size + 1);
    if (rc == SOW_OK && w->node_members == NULL)
        rc = SOW_ALLOC(&w->node_members, w->size);
    SOW_TRY(sow_world_agree(w, rc));
    w->deadline_s = deadline_s;
    number_nodes(w, per_node);
    return w->size > 1 ? make_comms(w) : SOW_OK;
}

int sow_world_n_nodes(const sow_world *w)
{
    return w->n_nodes;
}

int sow_world_node_of(const sow_world *w, int rank)
{
    SOW_ASSERT(w->n_nodes > 0 && rank >= 0 && rank < w->size);
    return w->node_of[rank];
}

int sow_world_node_size(const sow_world *w, int node)
{
    SOW_ASSERT(node >= 0 && node < w->n_nodes);
    return w->node_offsets[node + 1] - w->node_offsets[node];
}

int sow_world_node_member(const sow_world *w, int node, int index)
{
    SOW_ASSERT(index >= 0 && index < sow_world_node_size(w, node));
    return w->node_members[w->node_offsets[node] + index];
}
