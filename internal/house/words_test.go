package house

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// documents are there, and the change log has a place for the next change.
func documents(t *testing.T, tr *tree) (findings []string) {
	for _, f := range []string{"README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "Makefile", ".ci/run"} {
		if !tr.exists(f) {
			findings = append(findings, f+": is missing")
		}
	}
	if tr.exists("CHANGELOG.md") && !regexp.MustCompile(`(?m)^## \[?Unreleased\]?`).Match(tr.read(t, "CHANGELOG.md")) {
		findings = append(findings, "CHANGELOG.md: has no section \"## Unreleased\"")
	}
	if tr.exists(".ci/run") {
		if info, err := os.Stat(filepath.Join(tr.root, ".ci/run")); err == nil && info.Mode()&0o111 == 0 {
			findings = append(findings, ".ci/run: cannot be executed")
		}
	}
	return findings
}

// codemap: whoever reads ARCHITECTURE.md on the first day finds every room in it that is shipped.
func codemap(t *testing.T, tr *tree) (findings []string) {
	if !tr.exists("ARCHITECTURE.md") {
		return nil // documents says so
	}
	text := string(tr.read(t, "ARCHITECTURE.md"))
	for dir, files := range tr.packages() {
		desk := strings.HasPrefix(dir, "tools/") || files[0].ast.Name.Name == "main" && !strings.HasPrefix(dir, "cmd/")
		if !desk && !rooms[dir].aid && !strings.Contains(text, dir) {
			findings = append(findings, fmt.Sprintf("ARCHITECTURE.md: does not mention %s", dir))
		}
	}
	slices.Sort(findings)
	return findings
}

// A page is a Markdown file by lines, with the lines inside fences apart.
type page struct {
	file   string
	lines  []string
	fenced []bool
}

func pages(t *testing.T, tr *tree) (out []page) {
	for _, f := range tr.files {
		if path.Ext(f) != ".md" || strings.Contains("/"+f, "/testdata/") {
			continue
		}
		p := page{file: f, lines: strings.Split(string(tr.read(t, f)), "\n")}
		fence := ""
		for _, line := range p.lines {
			trimmed := strings.TrimLeft(line, " ")
			mark := ""
			if strings.HasPrefix(trimmed, "```") || strings.HasPrefix(trimmed, "~~~") {
				mark = trimmed[:3]
			}
			switch {
			case fence == "" && mark != "":
				fence = mark
				p.fenced = append(p.fenced, true)
			case fence != "" && mark == fence:
				fence = ""
				p.fenced = append(p.fenced, true)
			default:
				p.fenced = append(p.fenced, fence != "")
			}
		}
		out = append(out, p)
	}
	return out
}

var (
	linkMark = regexp.MustCompile(`\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)`)
	refMark  = regexp.MustCompile(`^\[[^\]]+\]:\s+<?(\S+?)>?(?:\s|$)`)
	codeSpan = regexp.MustCompile("`[^`]+`")
)

// links: a relative one names a file of the repository, and a heading of it where it says so.
func links(t *testing.T, tr *tree) (findings []string) {
	for _, p := range pages(t, tr) {
		for i, line := range p.lines {
			if p.fenced[i] {
				continue
			}
			line = codeSpan.ReplaceAllString(line, "")
			targets := linkMark.FindAllStringSubmatch(line, -1)
			if m := refMark.FindStringSubmatch(line); m != nil {
				targets = append(targets, m)
			}
			for _, m := range targets {
				target := m[1]
				if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
					continue
				}
				file, anchor, _ := strings.Cut(target, "#")
				to := p.file
				if file != "" {
					to = path.Join(path.Dir(p.file), file)
				}
				switch {
				case strings.HasPrefix(to, "..") || !tr.exists(to):
					findings = append(findings, fmt.Sprintf("%s:%d: links to %s, which is not in the repository", p.file, i+1, target))
				case anchor != "" && path.Ext(to) == ".md" && !slices.Contains(anchors(string(tr.read(t, to))), anchor):
					findings = append(findings, fmt.Sprintf("%s:%d: links to %s, and no heading of %s makes that anchor", p.file, i+1, target, to))
				}
			}
		}
	}
	return findings
}

// anchors of the headings, as GitHub and its kin make them.
func anchors(markdown string) (out []string) {
	seen := map[string]int{}
	for line := range strings.Lines(markdown) {
		title := strings.TrimLeft(line, "#")
		if title == line || !strings.HasPrefix(title, " ") {
			continue
		}
		var b strings.Builder
		for _, r := range strings.ToLower(strings.TrimSpace(title)) {
			switch {
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				b.WriteRune(r)
			case r == ' ':
				b.WriteByte('-')
			}
		}
		a := b.String()
		if n := seen[a]; n > 0 {
			out = append(out, fmt.Sprintf("%s-%d", a, n))
		} else {
			out = append(out, a)
		}
		seen[a]++
	}
	return out
}

var (
	// in running text: what stands in a code span and begins with a folder of ours
	spanPath = regexp.MustCompile("`((?:\\./)?(?:cmd|docs|hl7|internal|interop|tools|\\.ci)/[A-Za-z0-9_./*-]+)`")
	// in running text: a document or file at the top
	spanTop = regexp.MustCompile("`([A-Za-z][A-Za-z0-9_-]*\\.(?:md|mod|sum|conf)|Makefile|LICENSE)`")
	// in a fence: a command's argument
	fencePath = regexp.MustCompile(`(?:^|[\s"'=])(\./(?:cmd|docs|hl7|internal|interop|tools)(?:/[A-Za-z0-9_./*-]+)?)`)
)

// paths: a document that names a file which is gone leads its reader into nothing.
func paths(t *testing.T, tr *tree) (findings []string) {
	for _, p := range pages(t, tr) {
		if p.file == "CHANGELOG.md" {
			continue // it tells of what was
		}
		for i, line := range p.lines {
			marks := fencePath.FindAllStringSubmatch(line, -1)
			if !p.fenced[i] {
				marks = append(spanPath.FindAllStringSubmatch(line, -1), spanTop.FindAllStringSubmatch(line, -1)...)
			}
			for _, m := range marks {
				named := strings.TrimRight(m[1], ".")
				if strings.HasSuffix(m[1], "/...") {
					named = m[1]
				}
				if !tr.exists(named) && !tr.exists(path.Join(path.Dir(p.file), named)) {
					findings = append(findings, fmt.Sprintf("%s:%d: names %s, which is not in the repository", p.file, i+1, m[1]))
				}
			}
		}
	}
	return findings
}

var testName = regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark|Example)[A-Z_][A-Za-z0-9_]*`)

// namedTests: a promise that names its test is worth what that test is worth, so the test must be there.
func namedTests(t *testing.T, tr *tree) (findings []string) {
	have := map[string]bool{}
	for _, f := range tr.code {
		if f.test {
			for _, name := range testsOf(f) {
				have[name] = true
			}
		}
	}
	for _, p := range pages(t, tr) {
		for i, line := range p.lines {
			for _, name := range testName.FindAllString(line, -1) {
				if name == "TestMain" || have[name] || p.file == "CHANGELOG.md" {
					continue
				}
				findings = append(findings, fmt.Sprintf("%s:%d: names %s, which is no test of the tree", p.file, i+1, name))
			}
		}
	}
	return findings
}

// hereOnly are places that exist on one machine: of who wrote it, or of who built it.
var hereOnly = regexp.MustCompile(`(?:^|[\s"'` + "`" + `=(:,])(/` + `work|/` + `root|/` + `home/[a-z][a-z0-9_-]*|/` + `Users/[A-Za-z]+)/`)

// printed files show what somebody else wrote, and keep it as it is.
var printed = map[string]string{
	"docs/guide/": "the blocks of the guide, as printed",
}

func isPrinted(file string) bool {
	for dir := range printed {
		if strings.HasPrefix(file, dir) {
			return true
		}
	}
	return false
}

func machinePaths(t *testing.T, tr *tree) (findings []string) {
	return scan(t, tr, func(file, line string) string {
		if m := hereOnly.FindStringSubmatch(line); m != nil && !isPrinted(file) {
			return "a path of one machine (" + m[1] + "/); say it relative to the repository"
		}
		return ""
	})
}

// keyLine is a line of base64 as it follows the head of a PEM block, in a file or in a Go string.
const keyLine = `(?:\\n|"?\s*\+?\s*)*[A-Za-z0-9+/]{24,}`

// patterns of what must never be committed; none of them may match its own source.
var patterns = []struct{ what, pattern string }{
	{"a private key", `-----BEGIN [A-Z0-9 ]*PRIVATE` + ` KEY-----` + keyLine},
	{"an age identity", `AGE-SECRET-KEY-` + `(?:PQ-)?1[0-9A-Z]{20,}`},
	{"an AWS access key", `\b(?:AKIA|ASIA)` + `[0-9A-Z]{16}\b`},
	{"a GitHub token", `\bgh[pousr]_` + `[A-Za-z0-9]{30,}|github_pat_` + `[A-Za-z0-9_]{30,}`},
	{"a GitLab token", `\bglpat-` + `[A-Za-z0-9_-]{18,}`},
	{"an npm token", `\bnpm_` + `[A-Za-z0-9]{30,}`},
	{"a Slack token", `\bxox[abprs]-` + `[A-Za-z0-9-]{10,}`},
	{"a Google API key", `\bAIza` + `[A-Za-z0-9_-]{35}\b`},
	{"a Stripe key", `\b[rs]k_live_` + `[A-Za-z0-9]{16,}`},
	{"a Vault token", `\bhv[sbr]\.` + `[A-Za-z0-9_-]{24,}`},
	{"a signed token", `\beyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{20,}`},
	{"a password in a URL", `\b[a-z][a-z0-9+]{2,}://[A-Za-z0-9_.-]+:[A-Za-z0-9_.~!$&*+=%-]{3,}@(?:[a-z0-9-]+\.)*[a-z0-9-]+`},
}

// harmless passwords in URLs are variables, examples that name themselves so, or lead to nowhere.
var harmless = regexp.MustCompile(`:(?:\$\{?[a-zA-Z_]+\}?|secret|password|pass|wrong|hidden|clear|example|changeme|hunter2|x+|s3cret)[a-z0-9-]*@|@(?:[a-z0-9-]+\.)*(?:example|invalid|test|localhost)\b|@(?:example\.(?:com|org|net)|localhost|host|db)$`)

func secrets(t *testing.T, tr *tree) (findings []string) {
	var exprs []*regexp.Regexp
	for _, p := range patterns {
		exprs = append(exprs, regexp.MustCompile(p.pattern))
	}
	for _, f := range tr.files {
		b := tr.read(t, f)
		if !text(b) || path.Base(f) == "go.sum" || path.Base(f) == "package-lock.json" {
			continue
		}
		for i, e := range exprs {
			for _, at := range e.FindAllIndex(b, -1) {
				if patterns[i].what == "a password in a URL" && harmless.Match(b[at[0]:at[1]]) {
					continue
				}
				findings = append(findings, fmt.Sprintf("%s:%d: looks like %s; make it in the test, or refer to it", f, 1+bytes.Count(b[:at[0]], []byte("\n")), patterns[i].what))
			}
		}
	}
	return findings
}

// maxFile is more than any file of ours needs; the dictionary, the largest, has a quarter of it.
const maxFile = 1 << 20

// built: programs and dumps are made from the tree, and do not lie in it.
func built(t *testing.T, tr *tree) (findings []string) {
	for _, f := range tr.files {
		b := tr.read(t, f)
		switch {
		case bytes.HasPrefix(b, []byte("\x7fELF")):
			findings = append(findings, f+": a built program; remove it, and build into bin/")
		case len(b) > maxFile:
			findings = append(findings, fmt.Sprintf("%s: %d bytes; who clones the repository carries them for ever", f, len(b)))
		}
	}
	return findings
}

// scan asks about every line of every text file.
func scan(t *testing.T, tr *tree, ask func(file, line string) string) (findings []string) {
	for _, f := range tr.files {
		b := tr.read(t, f)
		if !text(b) {
			continue
		}
		n := 0
		for line := range strings.Lines(string(b)) {
			n++
			if what := ask(f, line); what != "" {
				findings = append(findings, fmt.Sprintf("%s:%d: %s", f, n, what))
			}
		}
	}
	return findings
}
