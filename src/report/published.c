/* SPDX-License-Identifier: Apache-2.0 */
/* What others have published, in figures of its own, in colours that no run of ours has. */
#include "report_impl.h"

#include <math.h>
#include <string.h>

/* arXiv 2601.20861, figures 1, 2, A1 and the notebook of github.com/akshat57/es-catastrophic at 565029a, digitised by
 * pixel: Qwen2.5-1.5B-Instruct, one seed.  Countdown k/500 and HellaSwag k/1005 items, +-0.1 points (GRPO's Countdown
 * at steps 180 and 240 +-0.4); Frobenius norm as their code computes it, embedding counted twice: d = 1.777e9. */
typedef struct published {
    int step;
    double target, prior, norm; /* per cent; norm NAN: computed in fp16, of no use */
} published;
static const published published_es[] = {
    {0, 5.4, 58.5, 0},       {50, 19.4, 59.1, 27.7},  {100, 40.6, 57.9, 39.4}, {150, 46.6, 60.0, 48.2},
    {200, 47.2, 56.8, 55.8}, {250, 49.0, 52.1, 62.3}, {300, 51.8, 52.5, 68.3}, {350, 52.2, 52.6, 73.9},
    {400, 53.2, 52.2, 78.8}, {450, 53.6, 50.8, 83.6}, {500, 52.6, 50.3, 88.4},
};
static const published published_grpo[] = {
    {0, 5.4, 58.5, (double)NAN},    {30, 40.0, 61.1, (double)NAN},  {60, 53.6, 61.1, (double)NAN},
    {90, 54.9, 60.9, (double)NAN},  {120, 55.9, 60.5, (double)NAN}, {150, 55.9, 60.6, (double)NAN},
    {180, 55.4, 61.3, (double)NAN}, {210, 57.2, 60.5, (double)NAN}, {240, 55.4, 60.4, (double)NAN},
    {270, 53.3, 60.0, (double)NAN}, {300, 52.3, 59.5, (double)NAN}, {330, 53.9, 59.6, (double)NAN},
    {360, 53.6, 60.0, (double)NAN}, {390, 50.6, 60.1, (double)NAN}, {420, 53.9, 59.8, (double)NAN},
    {450, 52.4, 60.4, (double)NAN}, {480, 54.0, 61.2, (double)NAN}, {500, 54.6, 60.9, (double)NAN},
};
enum { N_PUBLISHED_ES = sizeof published_es / sizeof *published_es };
enum { N_PUBLISHED_GRPO = sizeof published_grpo / sizeof *published_grpo };

static sow_code add_published(sow_words *s, const char *name, const published *points, int n)
{
    SOW_TRY(sow_words_print(s, "$%s << EOD\n", name));
    for (int i = 0; i < n; i++)
        SOW_TRY(sow_words_print(s, "%d %.6g %.6g %.6g\n", points[i].step, points[i].target, points[i].prior,
                                points[i].norm));
    return sow_words_print(s, "EOD\n");
}

/* Their two methods, or (column 4) the norm of the one with its law.  In the first two colours they would be taken for
 * ours: they are drawn in ink and muted. */
static sow_code make_published(report_plots *plots, const char *id, const char *title, const char *labels,
                               const char *columns)
{
    SOW_TRY(report_plots_begin(plots, REPORT_SECTION_PUBLISHED, id, title, 400, 280));
    sow_words *s = &plots->script;
    SOW_TRY(sow_words_print(s, "%s\n", labels));
    SOW_TRY(add_published(s, "es", published_es, N_PUBLISHED_ES));
    SOW_TRY(add_published(s, "grpo", published_grpo, N_PUBLISHED_GRPO));
    SOW_TRY(sow_words_print(
        s, "plot $es using %s with linespoints lw 2 pt 6 ps 0.5 lc rgb '#010000' title 'theirs: ES', ", columns));
    if (strcmp(columns, "1:4") == 0)
        return sow_words_print(s, "5e-4 * sqrt(1.777e9 * x / 30) with lines lw 1.6 dt (1.5,3) lc rgb '#010000' title "
                                  "'alpha sqrt(d T / N)'\n");
    return sow_words_print(
        s, "$grpo using %s with linespoints lw 2 dt (3,3) pt 4 ps 0.5 lc rgb '#010001' title 'theirs: GRPO'\n",
        columns);
}

static bool has_countdown(const report *r)
{
    for (int64_t i = 0; i < r->n_runs; i++)
        if (strcmp(r->runs[i].task, "countdown") == 0)
            return true;
    return false;
}

sow_code report_make_published(const report *r, report_plots *plots)
{
    if (!has_countdown(r))
        return SOW_OK;
    SOW_TRY(make_published(plots, "published-plane", "Theirs: HellaSwag against Countdown",
                           "set xlabel 'Countdown, %' offset 0,0.3 tc rgb '#010000'\nset ylabel 'HellaSwag, %' offset "
                           "1,0 tc rgb '#010000'\nset xrange [0:60]\n"
                           "set yrange [48:64]",
                           "2:3"));
    SOW_TRY(make_published(plots, "published-target", "Theirs: Countdown against step",
                           "set xlabel 'step' offset 0,0.3 tc rgb '#010000'\nset ylabel 'Countdown, %' offset 1,0 tc "
                           "rgb '#010000'\nset yrange [0:60]",
                           "1:2"));
    SOW_TRY(make_published(plots, "published-prior", "Theirs: HellaSwag against step",
                           "set xlabel 'step' offset 0,0.3 tc rgb '#010000'\nset ylabel 'HellaSwag, %' offset 1,0 tc "
                           "rgb '#010000'\nset yrange [48:64]",
                           "1:3"));
    return make_published(plots, "published-norm", "Theirs: norm of ES, and a random walk's law",
                          "set xlabel 'step' offset 0,0.3 tc rgb '#010000'\nset ylabel 'Frobenius norm (ES)' offset "
                          "1,0 tc rgb '#010000'\nset yrange [0:100]",
                          "1:4");
}
