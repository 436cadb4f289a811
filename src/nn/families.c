/* SPDX-License-Identifier: Apache-2.0 */
/* The list that families.def makes. */
#include "files_impl.h"

#include <string.h>

#define FAMILY(name) extern const sow_family sow_family_##name;
#include "families.def"
#undef FAMILY

static const sow_family *const families[] = {
#define FAMILY(name) &sow_family_##name,
#include "families.def"
#undef FAMILY
};

int64_t sow_family_count(void)
{
    return (int64_t)(sizeof families / sizeof families[0]);
}

const sow_family *sow_family_at(int64_t index)
{
    return families[index];
}

const sow_family *sow_family_find(const char *name)
{
    for (int64_t i = 0; i < sow_family_count(); i++)
        if (strcmp(families[i]->name, name) == 0)
            return families[i];
    return NULL;
}

const char *sow_family_names(sow_quoted *out)
{
    size_t at = 0;
    for (int64_t i = 0; i < sow_family_count() && at < sizeof out->text; i++) {
        int n = snprintf(out->text + at, sizeof out->text - at, "%s%s", i > 0 ? ", " : "", families[i]->name);
        at += n > 0 ? (size_t)n : 0;
    }
    return out->text;
}
