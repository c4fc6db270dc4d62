// Renders a chart as `helm template` does, for machines without helm: what is in it comes from the same libraries.
//
//	render manifests CHART RELEASE [VALUES...]
//	render values CHART RELEASE [VALUES...]     what the templates see, as JSON: the schema of the chart is about that
//
// It does what the chart of ringway takes: values of files over those of the chart, `include`, `tpl`, `toYaml`,
// `toJson`, `required`, `fail`, `.Files.Get` and the functions of sprig. Charts in charts have no place in it.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"github.com/ghodss/yaml"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
}

func read(path string) map[string]interface{} {
	text, err := os.ReadFile(path)
	must(err)
	values := map[string]interface{}{}
	must(yaml.Unmarshal(text, &values))
	return values
}

// over: maps are merged, anything else replaces what was there, and null takes it away.
func over(base, more map[string]interface{}) map[string]interface{} {
	for key, value := range more {
		inner, both := value.(map[string]interface{})
		there, isMap := base[key].(map[string]interface{})
		switch {
		case value == nil:
			delete(base, key)
		case both && isMap:
			base[key] = over(there, inner)
		default:
			base[key] = value
		}
	}
	return base
}

type files string

// Get: a file of the chart, or nothing.
func (folder files) Get(name string) string {
	text, _ := os.ReadFile(filepath.Join(string(folder), name))
	return string(text)
}

func functions(all *template.Template) template.FuncMap {
	known := sprig.TxtFuncMap()
	// As in Helm: what a machine's environment says is no part of a chart.
	delete(known, "env")
	delete(known, "expandenv")
	known["toYaml"] = func(value interface{}) string {
		text, err := yaml.Marshal(value)
		must(err)
		return strings.TrimSuffix(string(text), "\n")
	}
	known["toJson"] = func(value interface{}) string {
		text, err := json.Marshal(value)
		must(err)
		return string(text)
	}
	known["include"] = func(name string, data interface{}) (string, error) {
		var text strings.Builder
		err := all.ExecuteTemplate(&text, name, data)
		return text.String(), err
	}
	known["tpl"] = func(source string, data interface{}) (string, error) {
		copied, err := all.Clone()
		if err != nil {
			return "", err
		}
		parsed, err := copied.New("tpl").Parse(source)
		if err != nil {
			return "", err
		}
		var text strings.Builder
		err = parsed.Execute(&text, data)
		return text.String(), err
	}
	known["required"] = func(message string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return nil, fmt.Errorf("%s", message)
		}
		return value, nil
	}
	return known
}

func main() {
	if len(os.Args) < 4 {
		must(fmt.Errorf("manifests or values, CHART RELEASE [VALUES...]"))
	}
	chart := os.Args[2]
	values := read(filepath.Join(chart, "values.yaml"))
	for _, path := range os.Args[4:] {
		values = over(values, read(path))
	}
	if os.Args[1] == "values" {
		must(json.NewEncoder(os.Stdout).Encode(values))
		return
	}

	facts := map[string]interface{}{}
	for key, value := range read(filepath.Join(chart, "Chart.yaml")) {
		facts[strings.ToUpper(key[:1])+key[1:]] = value
	}
	data := map[string]interface{}{
		"Values": values,
		"Chart":  facts,
		"Files":  files(chart),
		"Release": map[string]interface{}{
			"Name": os.Args[3], "Namespace": "default", "Service": "Helm",
			"IsInstall": true, "IsUpgrade": false, "Revision": 1,
		},
	}
	all := template.New("chart").Option("missingkey=zero")
	all.Funcs(functions(all))
	paths, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	must(err)
	sort.Strings(paths)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		must(err)
		_, err = all.New(filepath.Base(path)).Parse(string(text))
		must(err)
	}
	for _, path := range paths {
		name := filepath.Base(path)
		if strings.HasPrefix(name, "_") {
			continue
		}
		var text bytes.Buffer
		must(all.ExecuteTemplate(&text, name, data))
		// As Helm prints a value that is missing: not at all.
		manifest := strings.TrimSpace(strings.ReplaceAll(text.String(), "<no value>", ""))
		// Notes must render, and are no manifest.
		if name != "NOTES.txt" && manifest != "" {
			fmt.Printf("---\n# Source: %s\n%s\n", name, manifest)
		}
	}
}
