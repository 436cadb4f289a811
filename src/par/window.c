/* SPDX-License-Identifier: Apache-2.0 */
/* Memory shared by the ranks of a node.
 *
 * The first rank of a node allocates all of it.  MPI_Win_free is collective and would wait for a rank that is lost,
 * so a window that is destroyed is only forgotten: MPI gets it back in sow_world_stop, when all ranks are there, and
 * the system when the process ends.  A rank alone on its node needs no MPI and no /dev/shm: its window is memory of
 * its own. */
#include "par_impl.h"

#include "sower/alloc.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

struct sow_window {
    void *data; /* borrowed from MPI, or mapped by us */
    size_t bytes;
    bool is_private;
};

/* What all shared nodes of this host take together: pretended nodes share one /dev/shm. */
static sow_code prepare_shared(sow_world *w, const char *what, size_t bytes)
{
    size_t n = 0, total = 0;
    for (int node = 0; node < w->n_nodes; node++)
        n += w->peers[sow_world_node_member(w, node, 0)].is_here && sow_world_node_size(w, node) > 1;
    if (__builtin_mul_overflow(n, bytes, &total))
        return SOW_FAIL(SOW_ENOMEM, "%s: %zu windows of %zu bytes are more than memory can be", what, n, bytes);
    return sow_par_shared_prepare(w, total, what);
}

static sow_code map_private(sow_window *window, const char *what)
{
    void *data = mmap(NULL, window->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return SOW_FAIL(SOW_ENOMEM, "no memory for %zu bytes of %s: %s", window->bytes, what, strerror(errno));
    window->data = data;
    window->is_private = true;
    return SOW_OK;
}

static sow_code prepare(sow_world *w, sow_window **window, size_t bytes, const char *what)
{
    if (bytes == 0 || bytes > PTRDIFF_MAX / 2)
        return SOW_FAIL(SOW_EARG, "a window of %zu bytes for %s, expected 1 to %td", bytes, what, PTRDIFF_MAX / 2);
    SOW_TRY(SOW_ALLOC(window, 1));
    (*window)->bytes = bytes;
    if (sow_world_node_size(w, w->node_of[w->rank]) > 1)
        return prepare_shared(w, what, bytes);
    return map_private(*window, what);
}

sow_code sow_window_create(sow_world *w, size_t bytes, const char *what, sow_window **out)
{
    sow_window *window = NULL;
    SOW_ASSERT(w->n_nodes > 0 && !w->is_sealed);
    sow_code rc = prepare(w, &window, bytes, what);
    SOW_TRY_OR(rc, sow_world_agree(w, rc));
    SOW_ASSERT(window != NULL);
    if (!window->is_private)
        rc = sow_par_shared_make(w, w->node, window->bytes, what, &window->data);
    SOW_TRY_OR(rc, sow_world_agree(w, rc));
    *out = window;
    window = NULL;
done:
    sow_window_destroy(&window);
    return rc;
}

void *sow_window_data(const sow_window *window)
{
    return window->data;
}

size_t sow_window_bytes(const sow_window *window)
{
    return window->bytes;
}

void sow_window_destroy(sow_window **window)
{
    if (*window == NULL)
        return;
    if ((*window)->is_private)
        (void)munmap((*window)->data, (*window)->bytes);
    SOW_FREE(window);
}
