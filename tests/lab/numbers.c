/* numbers NAME STREAMS SIZE LONG_EVERY CONTROL: numbered lines of all shapes, at the pace and up to the number that the file CONTROL tells, which it keeps the
 * count in.
 *
 * A line is `W NAME STREAM NUMBER KIND LENGTH FILLING~NUMBER`; each stream (o, e) is numbered from 1. STREAMS is `oe` (in turn), `o` or `e`. SIZE is the length
 * of a line of kind n; one in LONG_EVERY (0: none) is of kind l and longer than what the engine stores in a piece, or just as long. Lines of kind a hold what a
 * terminal would act on and what JSON has to escape, those of kind u bytes that are no UTF-8. Behind each number that 50 divides stands an empty line.
 *
 * CONTROL is shared memory, a process of the host at the other end: what is counted there was written, whoever is killed later. A process that is started again
 * goes on behind the last number. When it is told to quit, the last line of each stream has no line feed. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct control {
    /* the host's */
    volatile uint64_t target; /* numbered lines of both streams that are to be written in all */
    volatile uint64_t rate;   /* lines a second; 0 is as fast as the pipe takes them */
    volatile uint64_t quit;   /* end at the target */
    volatile uint64_t linger; /* milliseconds before the end */
    /* the writer's */
    volatile uint64_t written[2];
    volatile uint64_t empty[2];
    volatile uint64_t starts;
    volatile uint64_t ends;
};

static const size_t LONG[] = {16383, 16384, 16385, 32768, 40000, 100000};
static const char TERMINAL[] = "\033[31m\t\"\\\001\303\251\342\202\254\360\237\230\200\033[2J\033[0m\r.";
static const char NO_UTF8[] = "\377\376\303(";

static void put(int fd, const char *text, size_t length)
{
    while (length > 0) {
        ssize_t n = write(fd, text, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            _exit(1);
        text += n;
        length -= (size_t)n;
    }
}

static void rest(long milliseconds)
{
    struct timespec t = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv)
{
    static char line[200000];
    if (argc != 6)
        return 64;
    const char *name = argv[1], *streams = argv[2];
    size_t size = (size_t)atol(argv[3]);
    uint64_t long_every = (uint64_t)atol(argv[4]);
    int fd = open(argv[5], O_RDWR);
    struct control *c = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *c, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (c == MAP_FAILED)
        return 66;
    signal(SIGTERM, _exit);
    c->starts++;

    int both = strlen(streams) == 2;
    uint64_t due = now();
    for (;;) {
        uint64_t quit = c->quit, target = c->target, rate = c->rate, done = c->written[0] + c->written[1];
        if (done >= target) {
            if (quit)
                break;
            rest(10);
            due = now();
            continue;
        }
        int s = both ? (int)(done % 2) : streams[0] == 'e';
        uint64_t number = c->written[s] + 1;
        char kind = long_every && number % long_every == 0 ? 'l' : number % 41 == 0 ? 'a' : number % 43 == 0 ? 'u' : 'n';
        size_t length = kind == 'l' ? LONG[number / long_every % (sizeof LONG / sizeof *LONG)] : size;
        const char *special = kind == 'a' ? TERMINAL : kind == 'u' ? NO_UTF8 : "";
        char tail[32];
        size_t n = (size_t)sprintf(line, "W %s %c %llu %c %zu %s", name, "oe"[s], (unsigned long long)number, kind, length, special);
        size_t end = (size_t)sprintf(tail, "~%llu", (unsigned long long)number);
        for (size_t i = 0; n + end < length; i++)
            line[n++] = (char)('a' + i % 26);
        memcpy(line + n, tail, end);
        n += end;
        int last = quit && done + (both ? 2 : 1) >= target;
        if (!last)
            line[n++] = '\n';
        put(1 + s, line, n);
        c->written[s] = number;
        if (number % 50 == 0 && !last) {
            put(1 + s, "\n", 1);
            c->empty[s]++;
        }
        if (rate) {
            due += 1000000000 / rate;
            uint64_t t = now();
            if (due > t + 2000000)
                rest((long)((due - t) / 1000000));
            else if (t > due + 1000000000) /* it was held up: no burst for that */
                due = t;
        }
    }
    rest((long)c->linger);
    c->ends++;
    return 0;
}
