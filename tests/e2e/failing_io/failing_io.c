/* LD_PRELOAD: the N-th call of one kind on files below a directory fails, once or from then on.
 *
 * FAIL_KIND   open, read, write, fsync or rename
 * FAIL_AT     N, counted from 1
 * FAIL_EVER   1: all from the N-th on
 * FAIL_ERRNO  the number of the error
 * FAIL_UNDER  the directory
 * FAIL_IN     a word of the command line of the processes that are meant
 * FAIL_COUNT  file that is written when a call has failed
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;
static int meant = -1, at, ever, number;
static const char *kind, *under;

static int real_open(const char *path, int flags) {
    static int (*real)(const char *, int, ...);
    if (!real) real = dlsym(RTLD_NEXT, "open");
    return real(path, flags | O_CLOEXEC, 0600);
}

static void look(void) {
    if (meant >= 0) return;
    char line[8192];
    const char *word = getenv("FAIL_IN");
    meant = 0;
    kind = getenv("FAIL_KIND");
    under = getenv("FAIL_UNDER");
    if (!word || !kind || !under || !getenv("FAIL_AT")) return;
    at = atoi(getenv("FAIL_AT"));
    ever = getenv("FAIL_EVER") && *getenv("FAIL_EVER") == '1';
    number = atoi(getenv("FAIL_ERRNO"));
    int file = real_open("/proc/self/cmdline", O_RDONLY);
    if (file < 0) return;
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    ssize_t length = real(file, line, sizeof line - 1);
    close(file);
    for (ssize_t from = 0; from < length; from += strlen(line + from) + 1) {
        line[length] = 0;
        if (!strcmp(line + from, word)) meant = 1;
    }
}

static int fails(const char *what, const char *path) {
    look();
    if (!meant || strcmp(what, kind) || !path || strncmp(path, under, strlen(under))) return 0;
    long n = atomic_fetch_add(&calls, 1) + 1;
    if (n < at || (n > at && !ever)) return 0;
    if (n == at && getenv("FAIL_COUNT")) {
        int file = real_open(getenv("FAIL_COUNT"), O_WRONLY | O_CREAT);
        if (file >= 0) close(file);
    }
    errno = number;
    return 1;
}

static int fails_on(const char *what, int file) {
    look();
    if (!meant || strcmp(what, kind)) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return fails(what, path);
}

#define MODE(flags) mode_t mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, int); va_end(more); }
#define OPEN(name) int name(const char *path, int flags, ...) { MODE(flags) static int (*real)(const char *, int, ...); \
    if (!real) real = dlsym(RTLD_NEXT, #name); return fails("open", path) ? -1 : real(path, flags, mode); }
#define OPENAT(name) int name(int at_, const char *path, int flags, ...) { MODE(flags) static int (*real)(int, const char *, int, ...); \
    if (!real) real = dlsym(RTLD_NEXT, #name); return fails("open", path) ? -1 : real(at_, path, flags, mode); }
#define SYNC(name) int name(int file) { static int (*real)(int); if (!real) real = dlsym(RTLD_NEXT, #name); return fails_on("fsync", file) ? -1 : real(file); }
#define MOVE(kind_, name, result, args, given) result name args { static result (*real) args; if (!real) real = dlsym(RTLD_NEXT, #name); \
    return fails_on(kind_, file) ? -1 : real given; }

OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)
SYNC(fsync) SYNC(fdatasync)
MOVE("write", write, ssize_t, (int file, const void *data, size_t size), (file, data, size))
MOVE("write", pwrite, ssize_t, (int file, const void *data, size_t size, off_t where), (file, data, size, where))
MOVE("write", pwrite64, ssize_t, (int file, const void *data, size_t size, off64_t where), (file, data, size, where))
MOVE("read", read, ssize_t, (int file, void *data, size_t size), (file, data, size))
MOVE("read", pread, ssize_t, (int file, void *data, size_t size, off_t where), (file, data, size, where))
MOVE("read", pread64, ssize_t, (int file, void *data, size_t size, off64_t where), (file, data, size, where))

int rename(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    if (!real) real = dlsym(RTLD_NEXT, "rename");
    return fails("rename", to) ? -1 : real(from, to);
}
