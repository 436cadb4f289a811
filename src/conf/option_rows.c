/* SPDX-License-Identifier: Apache-2.0 */
/* The table of options as rows that code can walk, and the finding of a row by its name. */
#include "conf_impl.h"

#include <string.h>

#define IS_FREE_R false
#define IS_FREE_F true

/* clang-format off */
#define ROW(path, section, name, KIND, FREE, offset, text, low, high, choices, unit, doc) \
    {path, section, name, KIND_##KIND, IS_FREE_##FREE, offset, text, low, high, choices, unit, doc},

const option_row sow_conf_rows[N_ROWS] = {
#define TOP_OPT(name, KIND, FREE, ...) ROW(#name, "", #name, KIND, FREE, offsetof(sow_options, name), __VA_ARGS__)
#define OPT(section, name, KIND, FREE, ...) \
    ROW(#section "." #name, #section, #name, KIND, FREE, offsetof(sow_options, section.name), __VA_ARGS__)
#include "sower/options.def"
#define TASK_OPT(name, KIND, FREE, ...) \
    ROW("task." #name, "task", #name, KIND, FREE, offsetof(sow_options, task.name), __VA_ARGS__)
#include "sower/task_options.def"
};

const option_row sow_conf_probe_rows[N_PROBE_ROWS] = {
#define TASK_NAME_OPT(name, KIND, FREE, ...) \
    ROW("probes[].task", "probes", "task", KIND, FREE, offsetof(sow_probe_options, task.name), __VA_ARGS__)
#define TASK_OPT(name, KIND, FREE, ...) \
    ROW("probes[]." #name, "probes", #name, KIND, FREE, offsetof(sow_probe_options, task.name), __VA_ARGS__)
#define PROBE_OPT(name, KIND, FREE, ...) \
    ROW("probes[]." #name, "probes", #name, KIND, FREE, offsetof(sow_probe_options, name), __VA_ARGS__)
#include "sower/task_options.def"
};

const char *const sow_conf_sections[N_SECTIONS] = {
#define SECTION_BEGIN(section) #section,
#include "sower/options.def"
    "task",
};
/* clang-format on */

/* Where a probe's default is not the task's. */
static const struct {
    const char *name, *text;
} probe_defaults[] = {{"split", "test"}};

const char *sow_conf_probe_default(const option_row *row)
{
    for (size_t i = 0; i < sizeof probe_defaults / sizeof probe_defaults[0]; i++)
        if (strcmp(row->name, probe_defaults[i].name) == 0)
            return probe_defaults[i].text;
    return row->default_text;
}

void sow_conf_init_probe(sow_probe_options *probe)
{
    memset(probe, 0, sizeof *probe);
    for (int i = 0; i < N_PROBE_ROWS; i++)
        sow_conf_read_default(&sow_conf_probe_rows[i], sow_conf_probe_default(&sow_conf_probe_rows[i]), probe);
}

const option_row *sow_conf_find(const char *section, const char *name)
{
    for (int i = 0; i < N_ROWS; i++)
        if (strcmp(sow_conf_rows[i].section, section) == 0 && strcmp(sow_conf_rows[i].name, name) == 0)
            return &sow_conf_rows[i];
    return NULL;
}

const option_row *sow_conf_find_path(const char *path)
{
    for (int i = 0; i < N_ROWS; i++)
        if (strcmp(sow_conf_rows[i].path, path) == 0)
            return &sow_conf_rows[i];
    return NULL;
}

const option_row *sow_conf_find_probe(const char *name)
{
    for (int i = 0; i < N_PROBE_ROWS; i++)
        if (strcmp(sow_conf_probe_rows[i].name, name) == 0)
            return &sow_conf_probe_rows[i];
    return NULL;
}

int sow_conf_find_section(const char *name)
{
    for (int i = 0; i < N_SECTIONS; i++)
        if (strcmp(sow_conf_sections[i], name) == 0)
            return i;
    return -1;
}

/* The nearest name among the rows of one section. */
static const char *nearest_in(const char *section, const char *name)
{
    const char *names[N_ROWS];
    const option_row *rows[N_ROWS];
    int n = 0;
    for (int i = 0; i < N_ROWS; i++) {
        if (strcmp(sow_conf_rows[i].section, section) != 0)
            continue;
        rows[n] = &sow_conf_rows[i];
        names[n++] = sow_conf_rows[i].name;
    }
    const char *near = sow_words_nearest(name, names, n);
    for (int i = 0; i < n; i++)
        if (near == names[i])
            return rows[i]->path;
    return NULL;
}

static const char *nearest_probe(const char *name)
{
    const char *names[N_PROBE_ROWS];
    for (int i = 0; i < N_PROBE_ROWS; i++)
        names[i] = sow_conf_probe_rows[i].name;
    return strcmp(name, "name") == 0 ? "task" : sow_words_nearest(name, names, N_PROBE_ROWS);
}

/* In this order: a slip in the name (es.sigmaa), the right name in a wrong place (es.seed, sigma), a slip in a
 * section's name (modle), a slip anywhere in the path (ess.sigma). */
const char *sow_conf_meant(const char *section, const char *name)
{
    if (strcmp(section, "probes") == 0)
        return nearest_probe(name);
    const char *near = nearest_in(section, name);
    for (int i = 0; i < N_ROWS && near == NULL; i++)
        if (strcmp(sow_conf_rows[i].name, name) == 0)
            near = sow_conf_rows[i].path;
    if (near == NULL && section[0] == '\0')
        near = sow_words_nearest(name, sow_conf_sections, N_SECTIONS);
    if (near != NULL)
        return near;
    char path[KEY_BYTES];
    const char *paths[N_ROWS];
    (void)snprintf(path, sizeof path, "%s%s%s", section, section[0] == '\0' ? "" : ".", name);
    for (int i = 0; i < N_ROWS; i++)
        paths[i] = sow_conf_rows[i].path;
    return sow_words_nearest(path, paths, N_ROWS);
}
