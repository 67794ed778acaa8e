package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// WriteSecrets tells a worker, by its pipe, which secrets it has from now on.
func WriteSecrets(w io.Writer, secrets [][]byte) error {
	b, err := json.Marshal(secrets)
	if err == nil {
		_, err = w.Write(append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("tell a worker the secrets: %w", err)
	}
	return nil
}

// ReadSecrets calls each with what WriteSecrets wrote, until the agent closes the pipe.
func ReadSecrets(r io.Reader, each func(secrets [][]byte)) error {
	for d := json.NewDecoder(r); ; {
		var secrets [][]byte
		err := d.Decode(&secrets)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return errors.New("the agent's word on the secrets is damaged") // its text may have some of them
		}
		each(secrets)
	}
}
