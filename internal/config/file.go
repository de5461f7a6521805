package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// userKeys are the keys of one [[users]] table.
func userKeys() []string { return []string{"name", "password", "password_hash", "vhosts", "tags"} }

// applyFile applies the TOML text of the file name.
func (c *Config) applyFile(name, text string) error {
	var tree map[string]any
	if _, err := toml.Decode(text, &tree); err != nil {
		return syntaxError(name, err)
	}
	flat := map[string]any{}
	flatten(tree, "", flat)
	byKey := map[string]Setting{}
	for _, s := range Settings() {
		if s.get != nil { // a setting that is not printed is not of the file
			byKey[s.Key] = s
		}
	}
	for _, key := range slices.Sorted(maps.Keys(flat)) {
		if key == "users" {
			if err := c.applyFileUsers(name, flat[key]); err != nil {
				return err
			}
			continue
		}
		s, ok := byKey[key]
		if !ok {
			return unknownKey(name, key, append(slices.Collect(maps.Keys(byKey)), "users"))
		}
		values, err := stringsOf(flat[key], s.List)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", name, key, err)
		}
		if err := c.apply(s, values, name+": "+key); err != nil {
			return err
		}
	}
	return nil
}

// syntaxError names file and line.
func syntaxError(name string, err error) error {
	var pe toml.ParseError
	if errors.As(err, &pe) {
		msg := pe.Message
		if msg == "" {
			_, msg, _ = strings.Cut(pe.Error(), ": ")
		}
		return fmt.Errorf("%s:%d: %s", name, pe.Position.Line, msg)
	}
	return fmt.Errorf("%s: %s", name, strings.TrimPrefix(err.Error(), "toml: "))
}

// flatten turns nested tables into dotted keys.
func flatten(tree map[string]any, prefix string, out map[string]any) {
	for k, v := range tree {
		if sub, ok := v.(map[string]any); ok {
			flatten(sub, prefix+k+".", out)
			continue
		}
		out[prefix+k] = v
	}
}

func unknownKey(file, key string, known []string) error {
	text := fmt.Sprintf("%s: unknown key %s", file, key)
	if near := Nearest(key, known); near != "" {
		text += ", did you mean " + near + "?"
	}
	return errors.New(text)
}

// stringsOf gives a TOML value the textual form that flags and variables have.
func stringsOf(v any, list bool) ([]string, error) {
	items, isList := v.([]any)
	switch {
	case list && !isList:
		return nil, errors.New(`want a list such as ["a", "b"]`)
	case !list && isList:
		return nil, errors.New("want one value, not a list")
	case !isList:
		items = []any{v}
	}
	out := make([]string, 0, len(items))
	for _, item := range items {
		switch item := item.(type) {
		case string:
			out = append(out, item)
		case int64:
			out = append(out, strconv.FormatInt(item, 10))
		case bool:
			out = append(out, strconv.FormatBool(item))
		default:
			return nil, fmt.Errorf("want a string, a whole number, true or false, not %v", item)
		}
	}
	return out, nil
}

func (c *Config) applyFileUsers(file string, v any) error {
	tables, ok := v.([]map[string]any)
	if !ok {
		return fmt.Errorf("%s: users: want one [[users]] table per user", file)
	}
	for i, t := range tables {
		place := fmt.Sprintf("%s: users[%d]", file, i)
		u, err := fileUser(place, t)
		if err != nil {
			return err
		}
		c.putUser(u)
	}
	return nil
}

func fileUser(place string, t map[string]any) (User, error) {
	fields := map[string]string{}
	var vhosts, tags []string
	for _, key := range slices.Sorted(maps.Keys(t)) {
		if !slices.Contains(userKeys(), key) {
			return User{}, unknownKey(place, key, userKeys())
		}
		if key == "vhosts" {
			list, err := stringsOf(t[key], true)
			if err != nil {
				return User{}, fmt.Errorf("%s.vhosts: %w", place, err)
			}
			vhosts = list
			continue
		}
		if key == "tags" {
			list, err := stringsOf(t[key], true)
			if err != nil {
				return User{}, fmt.Errorf("%s.tags: %w", place, err)
			}
			tags = append([]string{}, list...) // not nil: an empty list means none
			continue
		}
		text, ok := t[key].(string)
		if !ok {
			return User{}, fmt.Errorf("%s.%s: want a string in quotes", place, key)
		}
		fields[key] = text
	}
	if fields["name"] == "" {
		return User{}, fmt.Errorf("%s: a user needs a name", place)
	}
	if (fields["password"] == "") == (fields["password_hash"] == "") {
		return User{}, fmt.Errorf("%s: user '%s' needs either password or password_hash", place, fields["name"])
	}
	u, err := newUser(fields["name"], fields["password"], fields["password_hash"], vhosts)
	if err == nil {
		err = checkTags(u, tags)
		u.Tags = tags
	}
	if err != nil {
		return User{}, fmt.Errorf("%s: %w", place, err)
	}
	return u, nil
}
