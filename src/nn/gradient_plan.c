/* SPDX-License-Identifier: Apache-2.0 */
/* Which rows go through a pass together.  Units that fit are packed into one; one that does not fit takes several:
 *
 *     its prefix forward                 keys and values are stored
 *     sequences, as many as fit   ...    gradients of the prefix's keys and values add up
 *     its prefix, forward and backward   from those gradients
 *
 * Every chain goes on from pass to pass in the order that one pass would have, so the cut changes no bits.
 *
 * Positions are grouped into pages of 16 by their number, so a page may hold the end of a prefix and the beginning of
 * a sequence: then the sequence has a page of its own with a copy of that end. */
#include "gradient_impl.h"

#include <string.h>

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Pages that positions first .. end - 1 touch. */
static int64_t count_pages(int64_t first, int64_t end)
{
    return (end + SOW_PAGE - 1) / SOW_PAGE - first / SOW_PAGE;
}

/* Short sequences fill pages badly; more than twice as many as rows need are not taken, except by one long sequence
 * with its prefix. */
int64_t sow_plan_pages(int64_t rows, int64_t positions)
{
    return rows / (SOW_PAGE / 2) + positions / SOW_PAGE + 4;
}

static int64_t sequence_pages(const sow_train_unit *unit, int64_t s)
{
    return count_pages(unit->n_prefix, unit->n_prefix + unit->sequences[s].n - 1);
}

/* A unit without sequences counts nothing and is passed over. */
static void count_unit(const sow_train_unit *unit, int64_t *rows, int64_t *pages)
{
    *rows = unit->n_sequences > 0 ? unit->n_prefix : 0;
    *pages = unit->n_sequences > 0 ? count_pages(0, unit->n_prefix) : 0;
    for (int64_t s = 0; s < unit->n_sequences; s++) {
        *rows += unit->sequences[s].n - 1;
        *pages += sequence_pages(unit, s);
    }
}

static int64_t row_limit(const sow_gradient *g)
{
    return least(g->row_tokens, g->rows);
}

bool sow_plan_fits(const sow_gradient *g, const sow_train_unit *unit)
{
    int64_t rows = 0, pages = 0;
    count_unit(unit, &rows, &pages);
    return pages <= g->pages && (rows <= row_limit(g) || (unit->n_sequences == 1 && rows <= g->rows));
}

static void start(sow_pass *pass, const sow_gradient_args *args)
{
    sow_pass old = *pass;
    *pass = (sow_pass){.args = args,
                       .segments = old.segments,
                       .shares = old.shares,
                       .tokens = old.tokens,
                       .row_segments = old.row_segments,
                       .page_segments = old.page_segments,
                       .ends = old.ends};
}

static sow_segment *add_segment(sow_pass *pass, sow_segment segment)
{
    const int64_t n_pages = count_pages(segment.first, segment.end);
    segment.first_page = pass->n_pages;
    for (int64_t p = 0; p < n_pages; p++)
        pass->page_segments[pass->n_pages++] = (int32_t)pass->n_segments;
    pass->segments[pass->n_segments] = segment;
    return &pass->segments[pass->n_segments++];
}

static void add_rows(sow_pass *pass, sow_segment *segment)
{
    segment->first_row = pass->n_rows;
    segment->n_rows = segment->end - segment->first;
    for (int64_t i = 0; i < segment->n_rows; i++) {
        pass->tokens[pass->n_rows] = segment->ids[i];
        pass->ends[pass->n_rows] = i + 1 == segment->n_rows;
        pass->row_segments[pass->n_rows++] = (int32_t)(segment - pass->segments);
    }
}

/* A unit's prefix without rows and its sequences first .. first + n - 1 with theirs. */
static void add_share(sow_pass *pass, int64_t u, int64_t first, int64_t n)
{
    const sow_train_unit *unit = &pass->args->units[u];
    sow_share *share = &pass->shares[pass->n_shares++];
    *share = (sow_share){.unit = u, .first_row = pass->n_rows, .prefix = -1};
    if (unit->n_prefix > 0) {
        share->prefix = pass->n_segments;
        (void)add_segment(
            pass, (sow_segment){.unit = u, .sequence = -1, .end = unit->n_prefix, .ids = unit->prefix, .prefix = -1});
    }
    share->first_segment = pass->n_segments;
    share->n_segments = n;
    for (int64_t s = first; s < first + n; s++)
        add_rows(pass, add_segment(pass, (sow_segment){.unit = u,
                                                       .sequence = s,
                                                       .first = unit->n_prefix,
                                                       .end = unit->n_prefix + unit->sequences[s].n - 1,
                                                       .ids = unit->sequences[s].ids,
                                                       .prefix = share->prefix}));
    share->n_rows = pass->n_rows - share->first_row;
}

static void add_prefix_rows(sow_pass *pass)
{
    pass->n_wanted = pass->n_rows;
    for (int64_t i = 0; i < pass->n_shares; i++) {
        sow_share *share = &pass->shares[i];
        share->prefix_row = pass->n_rows;
        if (share->prefix >= 0)
            add_rows(pass, &pass->segments[share->prefix]);
        share->n_prefix_rows = pass->n_rows - share->prefix_row;
    }
}

int64_t sow_plan_units(sow_gradient *g, const sow_gradient_args *args, int64_t first)
{
    sow_pass *pass = &g->pass;
    int64_t n = 0, rows = 0, pages = 0, more_rows = 0, more_pages = 0;
    start(pass, args);
    for (; first + n < args->n_units; n++) {
        const sow_train_unit *unit = &args->units[first + n];
        count_unit(unit, &more_rows, &more_pages);
        if (n > 0 && (rows + more_rows > row_limit(g) || pages + more_pages > g->pages))
            break;
        rows += more_rows;
        pages += more_pages;
        if (unit->n_sequences == 0)
            continue;
        add_share(pass, first + n, 0, unit->n_sequences);
        pass->shares[pass->n_shares - 1].is_whole = true;
    }
    add_prefix_rows(pass);
    return n;
}

void sow_plan_prefix(sow_gradient *g, const sow_gradient_args *args, int64_t unit, bool is_forward_only)
{
    start(&g->pass, args);
    add_share(&g->pass, unit, 0, 0);
    add_prefix_rows(&g->pass);
    g->pass.stores_prefix = g->pass.is_forward_only = is_forward_only;
    g->pass.resumes_prefix = !is_forward_only;
}

int64_t sow_plan_sequences(sow_gradient *g, const sow_gradient_args *args, int64_t unit, int64_t sequence)
{
    const sow_train_unit *of = &args->units[unit];
    int64_t n = 0, rows = 0, pages = count_pages(0, of->n_prefix);
    for (; sequence + n < of->n_sequences; n++) {
        rows += of->sequences[sequence + n].n - 1;
        pages += sequence_pages(of, sequence + n);
        if (n > 0 && (rows > row_limit(g) || pages > g->pages))
            break;
    }
    start(&g->pass, args);
    add_share(&g->pass, unit, sequence, n);
    g->pass.n_wanted = g->pass.n_rows;
    return n;
}
