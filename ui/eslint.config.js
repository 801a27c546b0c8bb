import a11y from "eslint-plugin-jsx-a11y";
import hooks from "eslint-plugin-react-hooks";
import { configs, config } from "typescript-eslint";

export default config(
  configs.recommendedTypeChecked,
  a11y.flatConfigs.recommended,
  {
    plugins: { "react-hooks": hooks },
    languageOptions: { parserOptions: { projectService: { allowDefaultProject: ["eslint.config.js"] } } },
    rules: {
      "react-hooks/rules-of-hooks": "error",
      // A table that is wider than the window is scrolled by keyboard too, and has a name for it.
      "jsx-a11y/no-noninteractive-tabindex": ["error", { roles: ["region"], tags: [] }],
      // The first thing in a dialog is what it asks for.
      "jsx-a11y/no-autofocus": "off",
      // Roles that a table would lose where style makes cards of its rows.
      "jsx-a11y/no-redundant-roles": "off",
      "jsx-a11y/no-interactive-element-to-noninteractive-role": "off",
    },
  },
  { files: ["test/**", "dev/**"], rules: { "@typescript-eslint/require-await": "off", "@typescript-eslint/no-base-to-string": "off", "@typescript-eslint/no-empty-function": "off" } },
  { files: ["eslint.config.js"], extends: [configs.disableTypeChecked] },
);
