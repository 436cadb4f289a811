/* SPDX-License-Identifier: Apache-2.0 */
/* Runs every file of the folders and files named on the command line through a fuzz target, once, in the order of
 * names.  Says how many; fails if there was none, so that a lost corpus is noticed. */
#include "fuzz.h"

#include <dirent.h>

enum { PATH_BYTES = 1024, MAX_BYTES = 1 << 22 };

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(MAX_BYTES);
    if (file == NULL || data == NULL) {
        (void)fprintf(stderr, "%s: cannot be read\n", path);
        abort();
    }
    size_t bytes = fread(data, 1, MAX_BYTES, file);
    (void)fclose(file);
    uint8_t *exact = realloc(data, bytes + (bytes == 0)); /* so that a sanitizer sees a step beyond the end */
    if (exact == NULL || LLVMFuzzerTestOneInput(exact, bytes) != 0)
        abort();
    free(exact);
    return 1;
}

static int run_folder(const char *folder)
{
    char path[PATH_BYTES];
    struct dirent **names = NULL;
    int n = scandir(folder, &names, NULL, alphasort), n_run = 0;
    for (int i = 0; i < n; i++) {
        if (names[i]->d_name[0] != '.') {
            (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
            n_run += run_file(path);
        }
        free(names[i]);
    }
    free(names);
    return n < 0 ? run_file(folder) : n_run;
}

int main(int argc, char **argv)
{
    int n_run = 0;
    for (int i = 1; i < argc; i++)
        n_run += run_folder(argv[i]);
    (void)printf("%d inputs\n", n_run);
    return n_run > 0 ? 0 : 1;
}
