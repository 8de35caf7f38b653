/* LD_PRELOAD: the N-th call of one kind on files below a directory fails, once or from then on; or what a file says, as long as it does.
 *
 * FAIL_KIND   open, read, write, fsync, rename, or memory: a large allocation, whatever the directory
 * FAIL_AT     N, counted from 1
 * FAIL_EVER   1: all from the N-th on
 * FAIL_ERRNO  the number of the error
 * FAIL_UNDER  the directory
 * FAIL_IN     a word of the command line of the processes that are meant
 * FAIL_COUNT  file that is written when a call has failed
 *
 * FAIL_NOW    file: while it holds "KIND ERRNO", every such call below FAIL_UNDER fails; "full" is a disk without room
 * FAIL_CLOCK  file with seconds: what the wall clock of every process is ahead; monotonic clocks stay
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
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define LARGE 65536
#define LOOK_MS 20

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
    if (!word || !under) return;
    at = getenv("FAIL_AT") ? atoi(getenv("FAIL_AT")) : 0;
    ever = getenv("FAIL_EVER") && *getenv("FAIL_EVER") == '1';
    number = getenv("FAIL_ERRNO") ? atoi(getenv("FAIL_ERRNO")) : 0;
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

static long pace_ms(void) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    struct timespec now;
    real(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* What the file of this variable says now, at most LOOK_MS old; "" if there is none. */
struct told { const char *name; long at; char text[64]; };

static const char *now_of(struct told *told) {
    const char *path = getenv(told->name);
    if (!path) return "";
    long now = pace_ms();
    if (told->at && now - told->at < LOOK_MS) return told->text;
    told->at = now;
    char fresh[64] = "";
    int file = real_open(path, O_RDONLY);
    if (file >= 0) {
        static ssize_t (*real)(int, void *, size_t);
        if (!real) real = dlsym(RTLD_NEXT, "read");
        ssize_t length = real(file, fresh, sizeof fresh - 1);
        fresh[length > 0 ? length : 0] = 0;
        close(file);
    }
    memcpy(told->text, fresh, sizeof fresh);
    return told->text;
}

static int fails_now(const char *what) {
    static struct told told = {"FAIL_NOW", 0, ""};
    const char *text = now_of(&told);
    if (!strncmp(text, "full", 4)) {
        errno = ENOSPC;
        return !strcmp(what, "write");
    }
    size_t length = strlen(what);
    if (strncmp(text, what, length) || text[length] != ' ') return 0;
    errno = atoi(text + length);
    return 1;
}

static int counted(void) {
    long n = atomic_fetch_add(&calls, 1) + 1;
    if (n < at || (n > at && !ever)) return 0;
    if (n == at && getenv("FAIL_COUNT")) {
        int file = real_open(getenv("FAIL_COUNT"), O_WRONLY | O_CREAT);
        if (file >= 0) close(file);
    }
    errno = number;
    return 1;
}

static int fails(const char *what, const char *path) {
    look();
    if (!meant || !path || strncmp(path, under, strlen(under))) return 0;
    return fails_now(what) || (kind && !strcmp(what, kind) && counted());
}

static int fails_on(const char *what, int file) {
    look();
    if (!meant || ((!kind || strcmp(what, kind)) && !getenv("FAIL_NOW"))) return 0;
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

int statvfs(const char *path, struct statvfs *found) {
    static int (*real)(const char *, struct statvfs *);
    if (!real) real = dlsym(RTLD_NEXT, "statvfs");
    int done = real(path, found);
    look();
    if (!done && meant && !strncmp(path, under, strlen(under)) && fails_now("write")) found->f_bavail = found->f_bfree = 0;
    return done;
}

/* --- the wall clock --- */

static long ahead(void) {
    static struct told told = {"FAIL_CLOCK", 0, ""};
    return atol(now_of(&told));
}

int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(which, now);
    if (!done && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += ahead();
    return done;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec found;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &found)) return -1;
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *to) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (to) *to = found.tv_sec;
    return found.tv_sec;
}

/* --- memory --- */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);

static int none_left(size_t size) {
    if (size < LARGE) return 0;
    look();
    return meant && kind && !strcmp(kind, "memory") && counted();
}

void *malloc(size_t size) { return none_left(size) ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return none_left(count * size) ? NULL : __libc_calloc(count, size); }
void *realloc(void *block, size_t size) { return none_left(size) ? NULL : __libc_realloc(block, size); }
