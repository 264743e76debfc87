"""Inputs for the real programs, the same on every machine: each function gives bytes from a size and nothing else."""
import array
import random
import struct

CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwxz", "aeiou"


def words(generator, count):
    """Pronounceable words of two to ten letters."""
    return ["".join(generator.choice(CONSONANTS) + generator.choice(VOWELS) for _ in range(generator.randint(1, 5)))
            for _ in range(count)]


def text(size):
    """About `size` characters of lines of words, frequent ones and rare ones."""
    generator = random.Random(1)
    vocabulary = words(generator, 3000)
    lines, total = [], 0
    while total < size:
        line = " ".join(vocabulary[int(generator.random() ** 3 * 3000)] for _ in range(generator.randint(4, 14)))
        lines.append(line)
        total += len(line) + 1
    return ("\n".join(lines) + "\n").encode()


def lines(count):
    """So many lines of a word and a number, in no order."""
    generator = random.Random(2)
    vocabulary = words(generator, 5000)
    return "".join(f"{generator.choice(vocabulary)} {generator.getrandbits(30)}\n" for _ in range(count)).encode()


def noise(size):
    return random.Random(3).randbytes(size)


def wave(samples):
    """Two channels of tones, a rising one, and some hiss, as a WAV file."""
    generator = random.Random(4)
    data = array.array("h")
    phase, level, hiss = [0.0] * 4, 0.0, 0.0
    for i in range(samples):
        for k in range(4):
            phase[k] = (phase[k] + 0.005 * (k + 1) + i % 40000 * 1e-7) % 1.0
        level = sum(abs(4 * p - 2) - 1 for p in phase) * 5000  # triangles: no library's sine is in it
        hiss = hiss * 0.7 + generator.randint(-600, 600)
        data.append(int(max(-32000, min(32000, level + hiss))))
        data.append(int(max(-32000, min(32000, level * 0.5 - hiss))))
    body = struct.pack(f"<{len(data)}h", *data)
    return (b"RIFF" + struct.pack("<I", 36 + len(body)) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 2, 44100, 176400, 4, 16) +
            b"data" + struct.pack("<I", len(body)) + body)


def c_source(functions):
    """Preprocessed C: functions of loops, tables, switches and arithmetic that call each other."""
    generator = random.Random(5)
    out = ["typedef unsigned int word; struct node { struct node *next; word key; double weight; };\n"]
    for n in range(functions):
        a, b, c = (generator.randint(3, 99) for _ in range(3))
        callee = f"f{generator.randrange(n)}(x ^ {a}, p)" if n else "x"
        cases = "".join(f"    case {i}: s += p[(i + {generator.randint(1, 60)}) & 63] * {generator.randint(2, 999)}; break;\n"
                        for i in range(12))
        out.append(f"""static const word t{n}[8] = {{{", ".join(str(generator.getrandbits(16)) for _ in range(8))}}};
word f{n}(word x, word *p) {{
  word s = {a}; int i, j;
  for (i = 0; i < {b}; i++) {{
    switch ((x >> i) % 13) {{
{cases}    default: s ^= t{n}[i & 7];
    }}
    for (j = i; j < {c}; j += 3) p[j & 63] = p[(j + {a}) & 63] + s / (j + 1);
    if (s > p[i & 63] && x != {b}) s = (s << 5 | s >> 27) + {callee};
  }}
  return s;
}}
double g{n}(struct node *l, double k) {{
  double sum = 0;
  for (; l; l = l->next) {{
    sum += l->weight * k + (l->key & {a} ? {b}.5 : -k);
    if (sum > 1e{n % 9}) {{ l->weight = sum / {c}; l->key = f{n}(l->key, &l->key); }}
  }}
  return sum;
}}
""")
    return "".join(out).encode()


def assembly(instructions):
    generator = random.Random(6)
    registers = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r12", "r15"]
    out = [".text\n"]
    for n in range(instructions):
        a, b = generator.choice(registers), generator.choice(registers)
        if n % 20 == 0:
            out.append(f".globl f{n}\nf{n}:\n")
        out.append(generator.choice([
            f"\tmovq %{a}, %{b}\n", f"\taddq ${generator.randint(1, 9999)}, %{a}\n",
            f"\tmovl {generator.randint(0, 255)}(%{a},%{b},4), %edx\n", f"\tjne f{n - n % 20}\n", f"\tcall f{n - n % 20}\n",
            f"\tleaq f{n - n % 20}(%rip), %{a}\n", f"\tpxor %xmm{n % 16}, %xmm1\n", f"\tshlq ${n % 63}, %{a}\n",
            f"\t.long {generator.getrandbits(31)}\n"]))
    return "".join(out).encode()


def sql_script(rows):
    generator = random.Random(7)
    vocabulary = words(generator, 400)
    out = ["create table a(id integer primary key, word text, n integer); create table b(word text, m real); begin;\n"]
    for i in range(rows):
        out.append(f"insert into a values({i}, '{generator.choice(vocabulary)}', {generator.getrandbits(20)});\n")
    for word in sorted(set(vocabulary)):
        out.append(f"insert into b values('{word}', {generator.randint(1, 999)}.25);\n")
    out.append("""commit; create index by_word on a(word); create index by_n on a(n);
select b.word, count(*), sum(a.n), max(a.n * b.m) from a join b on a.word = b.word group by b.word order by 3;
select count(*) from a where n between 100000 and 300000 and word like '%ba%';
update a set n = n + 1 where id % 3 = 0; delete from a where n % 7 = 0;
select substr(word, 1, 2) as s, avg(n), group_concat(distinct id % 5) from a group by s order by s;
""")
    return "".join(out).encode()


def python_script(_):
    return b"""import sys

counts, pairs = {}, {}
last = ''
for line in open(sys.argv[1]):
    for word in line.split():
        counts[word] = counts.get(word, 0) + 1
        pairs[last, word] = pairs.get((last, word), 0) + 1
        last = word


class Shape:
    def __init__(self, word, count):
        self.word, self.count = word, count

    def weight(self):
        return sum(ord(c) * (i + 1) for i, c in enumerate(self.word)) * self.count % 1000003


shapes = sorted((Shape(w, c) for w, c in counts.items()), key=lambda s: (s.weight(), s.word))
for s in shapes:
    print('%-12s %6d %s' % (s.word, s.count, ''.join(reversed(s.word)).title()))
print(len(pairs), max(pairs.items(), key=lambda p: (p[1], p[0])), sum(n * n for n in pairs.values()))
"""


def perl_script(_):
    return b"""my (%count, %after, $last);
while (<>) {
    s/([bcd])([aeiou])/$2$1/g;
    for my $word (split) {
        $count{$word}++;
        push @{$after{$last}}, length $word if defined $last && $word =~ /^[a-e](.*)[aeiou]$/;
        $last = $word;
    }
}
for my $word (sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count) {
    my $sum = 0;
    $sum = ($sum * 31 + $_) % 65521 for @{$after{$word} || []};
    printf "%s %d %d %s\\n", $word, $count{$word}, $sum, join '', map { chr(ord($_) ^ 32) } split //, $word;
}
"""


def awk_script(_):
    return b"""{
    for (i = 1; i <= NF; i++) {
        count[$i]++
        total += length($i) * i % 7
        if ($i ~ /^(ba|do|gu).*[aeiou]$/) starts[substr($i, 1, 3)] += i
    }
    gsub(/[aeiou]+/, "-")
    shapes[substr($0, 1, 9)]++
}
END {
    for (word in count) { n++; squares += count[word] * count[word] }
    for (s in starts) sum += starts[s]
    for (s in shapes) kinds++
    print n, squares, total, sum, kinds
}
"""


def lua_script(_):
    return b"""local counts, hash, sum = {}, 5381, 0
for line in io.lines(arg[1]) do
    for i = 1, #line do hash = (hash * 33 + line:byte(i)) % 4294967296 end
    for word in line:gmatch('%a+') do counts[word] = (counts[word] or 0) + 1 end
    local x = hash % 1000 / 1000
    for i = 1, 200 do x = 3.75 * x * (1 - x) end
    sum = sum + math.floor(x * 1000)
end
local names = {}
for word, n in pairs(counts) do names[#names + 1] = word .. ' ' .. n end
table.sort(names)
print(hash, sum, table.concat(names, ','))
"""
